"""A worker's training batches, one after another, from a task that gives an iterable of them."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import ContractBroken, Examples, Task, described
from ostrakon.common.tasks.data import check_alike, reading
from ostrakon.common.tasks.streams import FEED, seed_generators, torch_generator
from ostrakon.common.tasks.user_code import user_code

_CPU = torch.device("cpu")
_RNG = 1  # apart from the global generators
_END = object()


class Feed:
    """What `Task.batches` gives a worker. An iterable that has ended starts again.

    Before each batch the global generators are seeded with the round it is for, so that an order which is drawn when
    the iterable starts is another one whenever it does: at first, again, or after a restart of the worker.

    Args:
        worker, workers: the worker's number, from 0, and how many there are.
        batch: examples asked for in a batch.
        seed: what the order follows from, beside the rounds.
    """

    def __init__(self, task: Task, worker: int, workers: int, batch: int, seed: int) -> None:
        self._task, self._place, self._batch, self._seed = task, (worker, workers), batch, seed
        self._what = f"task {type(task).__name__}: batches"
        self._batches: Iterable[Any] | None = None
        self._iterator: Iterator[Any] | None = None
        self._latest: dict[int, tuple[int, Examples]] = {}

    def first(self) -> Examples:
        """A first batch of the iterable, to see what comes.

        Raises:
            DataNotReadable: the task cannot read its data.
            OstrakonError: its code is wrong.
        """
        with reading(self._what):
            return self.batch(0, 0)

    def batch(self, purpose: int, round: int) -> Examples:
        """The next batch; asked again for the latest round of a purpose, the same.

        Raises:
            OstrakonError: the task's code raises, or gives what is no batch, or none at all.
        """
        if purpose not in self._latest or self._latest[purpose][0] != round:
            self._latest[purpose] = round, self._next(purpose, round)
        return self._latest[purpose][1]

    def _next(self, purpose: int, round: int) -> Examples:
        what = FEED, self._place[0], purpose, round
        with user_code(self._what):
            seed_generators(_CPU, self._seed, *what)
            found = _END if self._iterator is None else next(self._iterator, _END)
            if found is _END:
                self._iterator = self._begun(torch_generator(_CPU, self._seed, *what, _RNG))
                found = next(self._iterator, _END)
            if found is _END:
                raise OstrakonError(f"{self._what} gave no batch: an iterable of at least one is needed each time")
            return _examples(found)

    def _begun(self, rng: torch.Generator) -> Iterator[Any]:
        if self._batches is None or self._batches is self._iterator:  # at first, or an iterator that is used up
            self._batches = self._task.batches(*self._place, self._batch, rng)
        if not isinstance(self._batches, Iterable):
            raise ContractBroken(
                f"it returned a {described(self._batches)}: expected an iterable of batches, as a "
                "torch.utils.data.DataLoader"
            )
        return iter(self._batches)


def gives_batches(task: Task) -> bool:
    """Whether a task gives its training data batch by batch."""
    return type(task).batches is not Task.batches


def trained_on(task: Task, own: Examples, worker: int, workers: int, batch: int, seed: int) -> Examples:
    """What a worker trains on: its `own` examples, or a first batch where the task gives batches.

    Raises:
        DataNotReadable: the task cannot read its data.
        OstrakonError: its code is wrong, or a batch is of another kind than the examples that it votes on.
    """
    if not gives_batches(task):
        return own
    first = Feed(task, worker, workers, batch, seed).first()
    check_alike(first, own, "batches", "worker_data")
    return first


def _examples(found: Any) -> Examples:
    if isinstance(found, Examples):
        return found
    if isinstance(found, tuple | list) and len(found) == 2:
        return Examples(*found)
    kind = f"{type(found).__name__} of {len(found)}" if isinstance(found, tuple | list | dict) else described(found)
    raise ContractBroken(f"a batch is a {kind}: expected Examples, or inputs and labels: (inputs, labels)")
