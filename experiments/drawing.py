"""Mini-batches of all workers of a round, drawn at once.

A networked worker draws each of its mini-batches from a stream of its own; to set up so many streams would take the
engine longer than the draw. Here all workers of a round share one, which follows from the seed, the purpose and the
round. The exact mode draws as networked workers do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.setting_types import MOST_WORKERS
from ostrakon.worker.sampling import generator

EVERYBODY = MOST_WORKERS
"""Stands for the worker's number in what all workers of a run share; no worker has it."""


@dataclass(frozen=True)
class Drawn:
    """Mini-batches of the n workers of R runs.

    Attributes:
        places: (R, n, b) int64, which of its own examples each worker takes; a worker that has no more than b takes all
            in their order, and behind them its first one for no weight.
        counts: (R, n), how many of them count.
    """

    places: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def weights(self) -> NDArray[np.float32]:
        """(R, n, b), what each example counts in its worker's mean."""
        counts = self.counts[..., None]
        return np.where(np.arange(self.places.shape[2]) < counts, 1 / counts, 0).astype(np.float32)


def draw(sizes: NDArray[np.int64], batch: int, seeds: Sequence[int], purpose: int, round: int) -> Drawn:
    """Draw `batch` different examples for each worker of R runs; of all, in their order, where there are no more.

    Robert Floyd's way: the k-th draw is among the first `size - batch + k`, and takes the last of these where it falls
    on one that is drawn already. Every set is equally likely.

    Args:
        sizes: (R, n), how many examples each worker has.
        batch: b, at least 1.
        seeds: of each run.
        purpose, round: what the draws follow from too; purposes as in `worker.sampling`.
    """
    counts = np.minimum(sizes, batch)
    last = np.maximum(sizes - batch, 0)[..., None] + np.arange(batch)
    places = np.stack(
        [generator(seed, purpose, EVERYBODY, round).integers(0, its + 1) for seed, its in zip(seeds, last, strict=True)]
    )
    for k in range(1, batch):
        repeated = (places[..., :k] == places[..., k, None]).any(axis=-1)
        places[repeated, k] = last[repeated, k]
    few = sizes <= batch
    if few.any():
        order = np.arange(batch)
        places[few] = np.where(order < sizes[few][:, None], order, 0)
    return Drawn(places, counts)
