"""Which of two candidates is better (Algorithm 3, the vote)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ostrakon.common.algorithm import preference
from ostrakon.common.choice import Ballot, Choice
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.passes import Draw, Passes
from ostrakon.worker.sampling import VOTE, draw, generator, place


@dataclass(frozen=True)
class Evidence:
    """What a worker knows of the candidates when it votes: the mean loss of each on one new mini-batch."""

    inner_loss: float
    outer_loss: float


CRITERIA: dict[str, Callable[[Evidence], Choice]] = {
    "loss": lambda evidence: preference(evidence.inner_loss, evidence.outer_loss)
}


class Voter:
    """Judges each round's candidates on a mini-batch that no training step of the round has seen drawn.

    Args:
        examples: the worker's own, with their true labels.
        model: where the computing is done; what it holds is overwritten, so it may be shared with the training.
        batch: examples in a vote's mini-batch.
        seed, worker: the mini-batch of a round, and whatever the task's code draws for each of its two candidates,
            follow from these two and the round's number alone.
        criterion: a name in `CRITERIA`.
    """

    def __init__(
        self,
        task: Task,
        examples: Examples,
        model: FlatModel,
        *,
        batch: int,
        seed: int,
        worker: int,
        criterion: str = "loss",
    ) -> None:
        self._examples = place(examples, model.theta.device)
        self._passes = Passes(task, model)
        self._batch = batch
        self._seed = seed
        self._worker = worker
        self._prefers = CRITERIA[criterion]

    def judge(self, round: int, inner: NDArray[np.float32], outer: NDArray[np.float32]) -> Ballot:
        """Vote in round `round` between two candidate models, (d,) each, on the same new mini-batch.

        Raises:
            OstrakonError: a candidate does not fit the task's model; the task's code raises, or breaks the contract.
        """
        batch = draw(self._examples, self._batch, generator(self._seed, VOTE, self._worker, round))
        what = Draw(self._seed, VOTE, self._worker, round)
        evidence = Evidence(*(self._passes.loss(torch.from_numpy(theta), batch, what) for theta in (inner, outer)))
        return Ballot(self._prefers(evidence), evidence.inner_loss, evidence.outer_loss)
