"""What is known of a plan: mean and standard deviation over the seeds of each cell, and the worst of each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ostrakon.experiments.experiment import Measurement
from ostrakon.experiments.tables.plan import Cell, Plan
from ostrakon.experiments.tables.store import Record, Store


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of some numbers; that of one number is not known.

    The deviation is the sample's, with count - 1 below the line.
    """

    mean: float
    std: float | None
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """That of at least one number.

    >>> spread([0.5, 0.75])
    Spread(mean=0.625, std=0.1767766952966369, count=2)
    """
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Filled:
    """What is known of a cell.

    Attributes:
        records: of those of its runs that were computed, in the order of their seeds.
        errors: why others could not be.
        missing: how many others were not yet tried.
    """

    cell: Cell
    records: tuple[Record, ...]
    errors: tuple[str, ...]
    missing: int

    @property
    def accuracy(self) -> Spread | None:
        """After the last round, mean over the workers' own test sets."""
        return spread([one.accuracy for one in self._last])

    @property
    def pooled(self) -> Spread | None:
        """After the last round, on the common test set."""
        return spread([one.pooled for one in self._last])

    @property
    def diverged(self) -> int:
        """How many of its runs diverged; they count as of accuracy 0."""
        return sum(one.outcome == "diverged" for one in self.records)

    @property
    def inner(self) -> float | None:
        """The share of rounds that Inner's candidate won, mean over the runs."""
        rounds = self.cell.experiment.rounds
        return fmean(one.rounds_of_inner / rounds for one in self.records) if self.records else None

    def curve(self) -> list[tuple[int, Spread]]:
        """The accuracy over the rounds; where a run diverged, it is 0 from then on."""
        one = self.cell.experiment
        rounds = sorted({*range(one.evaluate_every, one.rounds + 1, one.evaluate_every), one.rounds})
        of_runs = [{m.round: m.accuracy for m in record.measured} for record in self.records]
        found = ((at, spread([values.get(at, 0.0) for values in of_runs])) for at in rounds)
        return [(at, value) for at, value in found if value is not None]

    @property
    def _last(self) -> list[Measurement]:
        return [one.last(self.cell.experiment.rounds) for one in self.records]


def fill(plan: Plan, seeds: int, store: Store) -> list[Filled]:
    """What the store knows of each cell, in the plan's order."""
    filled = []
    for cell in plan.cells:
        found = [store.read(cell.with_seed(seed)) for seed in range(1, seeds + 1)]
        records = tuple(one for one in found if one is not None and one.error is None)
        errors = tuple(one.error for one in found if one is not None and one.error is not None)
        filled.append(Filled(cell, records, errors, found.count(None)))
    return filled


def over_row(filled: Sequence[Filled]) -> tuple[float, float] | None:
    """The worst and the mean of a row's mean accuracies; None where a cell of it is not known."""
    means = [one.accuracy.mean for one in filled if one.accuracy is not None]
    return (min(means), fmean(means)) if means and len(means) == len(filled) else None


def worst_of_paper(filled: Sequence[Filled]) -> float | None:
    """The worst that the paper measured in a row, where it measured all of it."""
    known = [one.cell.paper.accuracy for one in filled if one.cell.paper is not None]
    return min(known) if known and len(known) == len(filled) else None
