"""Lines 4 and 5 of Algorithm 3 for runs side by side: Inner and Outer of what came, and the models to vote on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ostrakon.common.aggregation.side_by_side import Decide, aggregates
from ostrakon.common.algorithm import step, unopposed
from ostrakon.common.choice import Choice
from ostrakon.experiments.one_run import Received, Run
from ostrakon.experiments.tensors import index, some
from ostrakon.experiments.yardsticks import IDEAL, all_distances_to_the_honest, distances_to_the_honest

Submissions = Sequence[tuple[Run, Received]]
"""What came in each run that goes on."""


@dataclass(frozen=True)
class Candidates:
    """What R runs have made of a round.

    Attributes:
        runs: those that went on until now; a run without a model that is finite has ended.
        models: Inner's and Outer's candidates, (R, 2, d); of a one-phase rule, twice its only one.
        off: how far their aggregates were from the average of the honest, (R, 2); NaN where no ideal vote asks it.
        unopposed: of each run the choice that needs no vote, if there is one.
    """

    runs: Sequence[Run]
    models: Tensor
    off: Tensor
    unopposed: Sequence[Choice | None]

    def standing(self) -> Iterator[tuple[int, Run, Choice | None]]:
        """Row, run, and choice that needs no vote, of each run that has not ended."""
        for row, (run, choice) in enumerate(zip(self.runs, self.unopposed, strict=True)):
            if run.outcome is None:
                yield row, run, choice


def propose(submissions: Submissions, thetas: Tensor, round: int, *, at_once: bool) -> Candidates:
    """The candidates of runs; those that have none that is finite end.

    Args:
        submissions: of each run.
        thetas: the committed models of these runs, (R, d).
        round: from 1.
        at_once: compute rules of many runs at once that can be, as is fastest on a GPU.
    """
    models = thetas.new_empty(len(thetas), 2, thetas.shape[1])
    off = thetas.new_full((len(thetas), 2), torch.nan)
    one_by_one = _propose_at_once(submissions, thetas, round, models, off) if at_once else range(len(submissions))
    for place in one_by_one:
        run, received = submissions[place]
        found = run.rule.aggregate(received.rows, run.bound, received.positions)
        if run.experiment.vote == IDEAL and len(found) == 2:
            vectors = torch.stack([one.vector for one in found])
            off[place] = distances_to_the_honest(received.honest, vectors)
        made = [step(thetas[place], one.vector, run.experiment.step(round)) for one in found]
        models[place, 0], models[place, 1] = made[0], made[-1]
    return _standing([run for run, _ in submissions], models, off)


def _propose_at_once(submissions: Submissions, thetas: Tensor, round: int, models: Tensor, off: Tensor) -> list[int]:
    """Write the models of runs that it can do at once; returns the places of the others."""
    alike: dict[tuple[object, ...], tuple[Decide, list[int]]] = {}
    rest = []
    for place, (run, _) in enumerate(submissions):
        one, decide = run.experiment, run.rule.side_by_side
        if decide is not None and all(run.present):
            kind = (run.rule.name, one.byzantine, one.bound, one.step(round), one.vote == IDEAL)
            alike.setdefault(kind, (decide, []))[1].append(place)
        else:
            rest.append(place)
    told = []
    for decide, places in alike.values():
        run = submissions[places[0]][0]
        those = index(places, models.device)
        x = torch.stack([submissions[place][1].rows for place in places])
        vectors, sure = aggregates(decide, x, run.bound)
        if run.experiment.vote == IDEAL:
            off[those] = all_distances_to_the_honest(x, run.experiment.byzantine, vectors).to(off)
        models[those] = step(some(thetas, places)[:, None], vectors, run.experiment.step(round))
        told.append(sure)
    if told:
        known = zip((place for _, places in alike.values() for place in places), torch.cat(told).tolist(), strict=True)
        rest += [place for place, sure in known if not sure]
    return rest


def _standing(runs: Sequence[Run], models: Tensor, off: Tensor) -> Candidates:
    """End the runs without a model that is finite, and see which need a vote."""
    fine, same = models.isfinite().all(dim=2), (models[:, 0] == models[:, 1]).all(dim=1)
    choices: list[Choice | None] = []
    for run, (inner, outer, alike) in zip(runs, torch.column_stack([fine, same]).tolist(), strict=True):
        if not inner and not outer:
            run.outcome = "diverged"
        choices.append(unopposed("a model" if inner else None, ("a model" if alike else "another") if outer else None))
    return Candidates(runs, models, off, choices)
