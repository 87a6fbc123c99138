"""What a partition is, and what the ways to make one share: what is held out, and how a short supply is shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.streams import POPULATION, stream

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

ONE_HELD_OUT_OF = 6  # of each class or writer: five examples to train on for one to test on, as in the paper's sets
POOLED = 2000  # at most


@dataclass(frozen=True)
class Partition:
    """Indices into the data; no example is held by two workers, and none that is trained on is tested on.

    Where the data are too few for so many workers, a worker's indices may be none.

    Attributes:
        training: what each worker trains on.
        tests: each worker's own test set, from the distribution that its training set comes from. Where that is the
            same for all, so is the test set; otherwise no two workers share an example of it.
        pooled: the common test set, from the distribution of all data; it follows from the seed alone, whatever the
            number of workers.
    """

    training: tuple[Indices, ...]
    tests: tuple[Indices, ...]
    pooled: Indices


class Supply(NamedTuple):
    """What there is to train on and to test on, each in the order that the seed gives."""

    training: Indices
    test: Indices


def grouped(name: str, values: ArrayLike, is_test: ArrayLike | None) -> tuple[Indices, Mask | None]:
    """Classes or writers as numbers, (N,), and the mask of an official test set, (N,), if there is one.

    Raises:
        OstrakonError: these are no N integers, or there is not one mark for each.
    """
    groups = np.asarray(values)
    if groups.ndim != 1 or groups.dtype.kind not in "iu":
        raise OstrakonError(f"{name} must be (N,) integers, but are {groups.dtype} of {groups.shape}")
    if is_test is None:
        return groups.astype(np.int64), None
    marks = np.asarray(is_test)
    if marks.shape != groups.shape or marks.dtype != np.bool_:
        raise OstrakonError(f"is_test must be {len(groups)} bool, one for each of {name}, but is of {marks.shape}")
    return groups.astype(np.int64), marks


def check_counts(**counts: int) -> None:
    """Refuse what is no number of workers, examples or shards.

    Raises:
        OstrakonError: naming the first one below 1.
    """
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise OstrakonError(f"{name} = {count!r} cannot be used: give a whole number of at least 1")


def shuffled(size: int, seed: int) -> Indices:
    """All indices in the order that the seed gives."""
    return stream(seed, POPULATION).permutation(size)


def hold_out(groups: Indices, is_test: Mask | None, seed: int) -> Supply:
    """Split what is trained on from what is tested on: as is marked, or else a sixth of each group for the test."""
    order = shuffled(len(groups), seed)
    if is_test is None:
        by_group = order[np.argsort(groups[order], kind="stable")]  # in each group in the seed's order
        _, first, sizes = np.unique(groups[by_group], return_index=True, return_counts=True)
        rank = np.arange(len(groups)) - np.repeat(first, sizes)
        is_test = np.empty(len(groups), np.bool_)
        is_test[by_group] = rank < np.repeat(sizes // ONE_HELD_OUT_OF, sizes)
    return Supply(order[~is_test[order]], order[is_test[order]])


def deal(supply: Indices, labels: Indices, classes: Indices, asked: Indices) -> tuple[Indices, ...]:
    """Give each worker so many examples of each class.

    A class of which more is asked than there is is shared in proportion to what each worker asked of it. Who gets less
    gets nothing of another class instead: the set is smaller, and nearer to its distribution than a full one would be.

    Args:
        supply: indices of the examples that there are to give.
        asked: (workers, classes), how many.
    """
    given: list[list[Indices]] = [[] for _ in asked]
    for column, label in enumerate(classes):
        there = supply[labels[supply] == label]
        wanted = asked[:, column]
        if wanted.sum() > len(there):
            wanted = wanted * len(there) // wanted.sum()
        for mine, part in zip(given, np.split(there, np.cumsum(wanted))[:-1], strict=True):
            mine.append(part)
    return tuple(joined(parts) for parts in given)


def joined(parts: Sequence[Indices]) -> Indices:
    """One array of several, which may be none."""
    return np.concatenate([np.empty(0, np.int64), *parts])
