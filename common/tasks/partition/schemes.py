"""The ways to partition data among workers."""

from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.partition.parts import (
    POOLED,
    Indices,
    Partition,
    check_counts,
    deal,
    grouped,
    hold_out,
    joined,
    shuffled,
)
from ostrakon.common.tasks.streams import PARTITION, SHARE, stream

Shares = NDArray[np.float64]


def uniform(
    labels: ArrayLike,
    workers: int,
    seed: int,
    *,
    per_class: int = 15,
    test_per_class: int = 20,
    is_test: ArrayLike | None = None,
) -> Partition:
    """Uniform over the classes as far as the supply allows: the homogeneous setting of the paper's section 5.

    The examples of each class are shuffled by the seed; the first ones are the test set, of all workers and pooled, and
    each worker takes the next `per_class`, or an equal share where the class has fewer.

    Args:
        labels: (N,) integers.
        per_class: examples that a worker takes of a class, at most.
        test_per_class: those of the test set, at most; and never more than a fifth of the class, where none are marked.
        is_test: (N,) bool, marks the examples of an official test set; without it, any may be tested on.

    Raises:
        OstrakonError: an argument is not what is said here.
    """
    check_counts(workers=workers, per_class=per_class, test_per_class=test_per_class)
    known, marks = grouped("labels", labels, is_test)
    order = shuffled(len(known), seed)
    training: list[list[Indices]] = [[] for _ in range(workers)]
    test = []
    for label in np.unique(known):
        supply = order[known[order] == label]
        if marks is None:
            held_out = min(test_per_class, len(supply) // 5)
            test.append(supply[:held_out])
            supply = supply[held_out:]
        else:
            test.append(supply[marks[supply]][:test_per_class])
            supply = supply[~marks[supply]]
        share = min(per_class, len(supply) // workers)
        for worker, mine in enumerate(training):
            mine.append(supply[worker * share : (worker + 1) * share])
    pooled = joined(test)
    return Partition(tuple(joined(mine) for mine in training), (pooled,) * workers, pooled)


def dirichlet(
    labels: ArrayLike,
    workers: int,
    seed: int,
    *,
    alpha: float = 0.1,
    total: float = 1,
    training: int = 750,
    test: int = 150,
    is_test: ArrayLike | None = None,
) -> Partition:
    """Worker i's classes are distributed as its own q_i ~ Dir(alpha * p): the heterogeneous setting (section 5).

    p is the distribution of all labels, scaled to sum to `total`. The paper leaves the total open: 1 is its literal
    reading, in which a worker has hardly more than one class at alpha = 0.1; the number of classes is that of Hsu et
    al. (2019), in which it has several. Training and test set of a worker are independent draws from its q_i; both get
    smaller where a class runs out, see `deal`.

    Args:
        labels: (N,) integers.
        alpha: the smaller, the fewer classes a worker has.
        total: what p sums to.
        training, test: examples of a worker; fewer where a class runs out.
        is_test: (N,) bool, marks the examples of an official test set; without it, a sixth of each class is held out.

    Raises:
        OstrakonError: an argument is not what is said here.
    """
    check_counts(workers=workers, training=training, test=test)
    for name, value in (("alpha", alpha), ("total", total)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
            raise OstrakonError(f"{name} = {value!r} of a Dirichlet partition: give a number above 0, up to 1000000")
    known, marks = grouped("labels", labels, is_test)
    supply = hold_out(known, marks, seed)
    classes, sizes = np.unique(known, return_counts=True)
    asked = np.zeros((2, workers, len(classes)), np.int64)
    for worker in range(workers if len(classes) else 0):
        rng = stream(seed, SHARE, worker)
        q = _dirichlet(rng, alpha * total * sizes / len(known))
        asked[:, worker] = rng.multinomial(training, q), rng.multinomial(test, q)
    return Partition(
        deal(supply.training, known, classes, asked[0]),
        deal(supply.test, known, classes, asked[1]),
        supply.test[:POOLED],
    )


def by_writer(
    writers: ArrayLike,
    workers: int,
    seed: int,
    *,
    training: int = 750,
    is_test: ArrayLike | None = None,
) -> Partition:
    """Each worker holds all examples of some writers, as in LEAF (Caldas et al. 2018).

    The writers are shuffled by the seed and dealt out in turn; a worker takes no further one once it has `training`
    examples. Its own test set is what is held out of its writers.

    Args:
        writers: (N,) integers, who made each example.
        training: examples after which a worker takes no further writer.
        is_test: (N,) bool, marks the examples of an official test set; without it, a sixth of each writer's is it.

    Raises:
        OstrakonError: an argument is not what is said here.
    """
    check_counts(workers=workers, training=training)
    known, marks = grouped("writers", writers, is_test)
    supply = hold_out(known, marks, seed)
    left = deque(stream(seed, PARTITION).permutation(np.unique(known)))
    sizes = dict(zip(*np.unique(known[supply.training], return_counts=True), strict=True))
    holder, held = dict.fromkeys(left, workers), [0] * workers
    while left and (short := [worker for worker in range(workers) if held[worker] < training]):
        for worker in short[: len(left)]:
            writer = left.popleft()
            holder[writer] = worker
            held[worker] += sizes.get(writer, 0)
    holders = np.array([holder[writer] for writer in np.unique(known)], np.int64)
    of = holders[np.unique(known, return_inverse=True)[1]]
    return Partition(
        tuple(supply.training[of[supply.training] == worker] for worker in range(workers)),
        tuple(supply.test[of[supply.test] == worker] for worker in range(workers)),
        supply.test[:POOLED],
    )


def by_shards(
    labels: ArrayLike,
    workers: int,
    seed: int,
    *,
    shards: int = 2,
    training: int = 750,
    test: int = 150,
    is_test: ArrayLike | None = None,
) -> Partition:
    """Each worker holds a few shards of the data sorted by label (McMahan et al. 2017, section 3).

    As many examples as all workers are to hold, or all there are, are sorted by label and cut into `shards` equal parts
    for each worker; who gets which follows from the seed. A worker's own test set is drawn from the distribution of the
    labels that it trains on.

    Args:
        labels: (N,) integers.
        shards: of each worker.
        training, test: examples of a worker, at most.
        is_test: (N,) bool, marks the examples of an official test set; without it, a sixth of each class is held out.

    Raises:
        OstrakonError: an argument is not what is said here.
    """
    check_counts(workers=workers, shards=shards, training=training, test=test)
    if shards > training:
        raise OstrakonError(f"shards = {shards} of {training} examples: give at most as many as a worker has examples")
    known, marks = grouped("labels", labels, is_test)
    supply = hold_out(known, marks, seed)
    chosen = supply.training[: workers * training]
    cut = np.array_split(chosen[np.argsort(known[chosen], kind="stable")], workers * shards)
    hands = stream(seed, PARTITION).permutation(workers * shards).reshape(workers, shards)
    held = tuple(joined([cut[shard] for shard in hand]) for hand in hands)
    classes = np.unique(known)
    asked = np.zeros((workers, len(classes)), np.int64)
    for worker, mine in enumerate(held):
        if len(mine):
            shares = (known[mine, None] == classes).mean(axis=0)
            asked[worker] = stream(seed, SHARE, worker).multinomial(test, shares)
    return Partition(held, deal(supply.test, known, classes, asked), supply.test[:POOLED])


def _dirichlet(rng: np.random.Generator, concentration: Shares) -> Shares:
    """A draw of Dir(concentration), however small: where numpy's own would be 0/0, too.

    A gamma variable of shape a is one of shape a + 1 times U^(1/a): taken as logarithms, none underflows.
    """
    scaled = np.log1p(-rng.random(len(concentration))) / concentration
    logarithms = np.log(rng.standard_gamma(concentration + 1)) + scaled
    q: Shares = np.exp(logarithms - logarithms.max())
    q /= q.sum()
    return q
