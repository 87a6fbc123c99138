"""Computing groups of runs, in whatever process."""

import gc
from collections.abc import Callable, Generator, Sequence

import torch

from ostrakon.common.errors import OstrakonError
from ostrakon.common.traces import last_line, place
from ostrakon.experiments.engine import SHARED, run_together
from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.tables.store import Record, record

Group = tuple[Experiment, ...]
"""Runs that are computed side by side; alike in what `run_together` asks."""

Computed = Generator[tuple[Group, list[Record]], None, None]
"""Groups with their records, in the order in which they are over; closed before its end, it computes no more."""

Tell = Callable[[int], object]
"""Is told how many rounds of runs were computed; a negative number where they are to be computed again."""


class Stopped(Exception):
    """Computing was to end."""


def compute(group: Group, tell: Tell) -> list[Record]:
    """Compute runs side by side; halves of the group, where it fails as a whole, as for want of memory.

    Returns:
        a record of each, in their order; of what cannot be computed, why.

    Raises:
        Stopped: `tell` raised it.
    """
    done = 0

    def told(_: int) -> None:
        nonlocal done
        done += len(group)
        tell(len(group))

    try:
        return [record(result) for result in run_together(group, told)]
    except Stopped:
        raise
    except Exception as error:  # a user's task may raise anything
        sentence = str(error) if isinstance(error, OstrakonError) else f"{last_line(error)}{place(error, ours=True)}"
    tell(-done)
    gc.collect()  # what the exception held
    torch.cuda.empty_cache()  # of what did not fit; does nothing where there is no GPU
    if len(group) == 1:
        return [failed(sentence)]
    half = len(group) // 2
    return [*compute(group[:half], tell), *compute(group[half:], tell)]


def failed(sentence: str) -> Record:
    """The record of a run that could not be computed."""
    return Record(outcome="failed", error=sentence)


def groups(experiments: Sequence[Experiment], together: int) -> list[Group]:
    """Which runs go side by side: at most `together` of those that are alike."""
    alike: dict[str, list[Experiment]] = {}
    for one in experiments:
        alike.setdefault(one.model_dump_json(include=set(SHARED)), []).append(one)
    return [tuple(some[i : i + together]) for some in alike.values() for i in range(0, len(some), together)]
