"""All examples of all workers in one place on the device, from which a round's mini-batches are gathered at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.data import check_alike, flipped, own_test_data, test_data, worker_data
from ostrakon.experiments.drawing import Drawn, draw
from ostrakon.experiments.tensors import to_device
from ostrakon.worker.sampling import place


@dataclass(frozen=True)
class Shares:
    """Examples of the n workers.

    Attributes:
        examples: one worker's behind the other's, on the device.
        sizes: (n,), how many of them are each worker's.
    """

    examples: Examples
    sizes: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """(n,), where each worker's begin."""
        starts: NDArray[np.int64] = self.sizes.cumsum() - self.sizes
        return starts

    def of_workers(self) -> list[Examples]:
        """One for each worker."""
        parts = (torch.split(one, self.sizes.tolist()) for one in (self.examples.inputs, self.examples.labels))
        return [Examples(inputs, labels) for inputs, labels in zip(*parts, strict=True)]

    def mean_of_workers(self, right: Tensor) -> float:
        """The mean over the workers of the share of each one's examples that are answered rightly.

        Args:
            right: (examples,) bool.
        """
        counts = np.add.reduceat(right.cpu().numpy().astype(np.int64), self.starts)
        return float((counts / self.sizes).mean())


@dataclass(frozen=True)
class TestSets:
    """What models are measured on.

    Attributes:
        pooled: the common test set, on the device.
        own: those of the workers; None where each one's is the common one.
    """

    pooled: Examples
    own: Shares | None


@dataclass(frozen=True)
class Holding:
    """What the n workers of one seed hold, and the test data.

    Attributes:
        training: what each trains on.
        flipped: the labels that label-flipping workers (LF) train on, of the first workers' examples alone.
        tests: what models are measured on.
    """

    training: Shares
    flipped: Tensor
    tests: TestSets


def hold(task: Task, workers: int, seed: int, flipping: int, device: torch.device) -> Holding:
    """Let the task make or read the examples of all workers, and the test sets.

    Args:
        flipping: how many workers, the first ones, train on flipped labels at some time.

    Raises:
        OstrakonError: the task's code raises, breaks its contract, or cannot read its data.
    """
    own = [worker_data(task, worker, workers, seed) for worker in range(workers)]
    tests = test_sets(task, workers, seed, device)
    check_alike(own[0], tests.pooled)
    lies = [flipped(task, one, worker, seed).labels for worker, one in enumerate(own[:flipping])]
    return Holding(_shares(own, device), torch.cat([own[0].labels[:0], *lies]).to(device), tests)


def test_sets(task: Task, workers: int, seed: int, device: torch.device) -> TestSets:
    """Let the task make or read what models are measured on.

    Raises:
        OstrakonError: the task's code raises, or breaks its contract.
    """
    pooled = test_data(task, seed)
    own = own_test_data(task, workers, seed, pooled)
    return TestSets(place(pooled, device), None if own is None else _shares(own, device))


def _shares(own: Sequence[Examples], device: torch.device) -> Shares:
    every = Examples(torch.cat([one.inputs for one in own]), torch.cat([one.labels for one in own]))
    return Shares(place(every, device), np.array([len(one) for one in own], dtype=np.int64))


class Pool:
    """What the workers of all seeds hold, in one place: the mini-batches of all runs are gathered at once."""

    def __init__(self, holdings: Mapping[int, Holding]) -> None:
        """Takes the holdings of each seed, which nobody needs afterwards."""
        every = list(holdings.values())
        training = [one.training for one in every]
        self._inputs = _joined([one.examples.inputs for one in training])
        self._labels = torch.cat([*(one.examples.labels for one in training), *(one.flipped for one in every)])
        self._row = {seed: row for row, seed in enumerate(holdings)}
        self._sizes = np.stack([one.sizes for one in training])
        examples, flipped = (np.array([0, *sizes]).cumsum() for sizes in _lengths(every))
        self._starts = np.stack([first + one.starts for first, one in zip(examples, training, strict=False)])
        self._lies = examples[-1] + flipped[:-1] - examples[:-1]  # how far a flipped label is behind the true one

    def draw(self, seeds: Sequence[int], batch: int, purpose: int, round: int) -> Drawn:
        """Draw mini-batches of all workers of runs of these seeds; those of one seed draw the same."""
        once = list(dict.fromkeys(seeds))
        drawn = draw(self._sizes[self._rows(once)], batch, once, purpose, round)
        which = [once.index(seed) for seed in seeds]
        return Drawn(drawn.places[which], drawn.counts[which])

    def gather(self, seeds: Sequence[int], drawn: Drawn, lying: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The mini-batches of all workers of R runs, flat: inputs and labels, (R * n * b, ...).

        Args:
            seeds: of each run.
            drawn: what `draw` drew for them.
            lying: of each run how many workers, the first ones, are given flipped labels.
        """
        rows = self._rows(seeds)
        inputs = self._starts[rows][..., None] + drawn.places
        lies = np.arange(inputs.shape[1]) < np.array(lying)[:, None]
        labels = inputs + (lies * self._lies[rows][:, None])[..., None]
        places = to_device(np.stack([inputs.ravel(), labels.ravel()]), self._inputs.device)
        return self._inputs[places[0]], self._labels[places[1]]  # not index_select, which would give up the layout

    def _rows(self, seeds: Sequence[int]) -> list[int]:
        return [self._row[seed] for seed in seeds]


def _lengths(holdings: Sequence[Holding]) -> tuple[list[int], list[int]]:
    """How many examples, and how many flipped labels."""
    return [len(one.training.examples) for one in holdings], [len(one.flipped) for one in holdings]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
