"""Which of two candidates is better (Algorithm 3, the vote)."""

import math

import torch
from torch import Tensor

from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Ballot, Choice
from ostrakon.common.criteria import CRITERIA, Evidence, gain, nearness, rounds_until_heard
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.passes import Draw, Passes
from ostrakon.common.wire import Vector
from ostrakon.worker.sampling import VOTE, draw, generator, place
from ostrakon.worker.training import Training


class Voter:
    """Judges each round's candidates on a mini-batch that no training step of the round has seen drawn.

    Args:
        examples: the worker's own, with their true labels.
        model: where the computing is done; what it holds is overwritten, so it may be shared with the training.
        batch: examples in a vote's mini-batch.
        seed, worker: the mini-batch of a round, and whatever the task's code draws for each of its two candidates,
            follow from these two and the round's number alone.
        criterion: a name in `CRITERIA`.
        asked: what trains the vector that the criterion asks, if it asks one.
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
        asked: Training | None = None,
    ) -> None:
        self._examples = place(examples, model.theta.device)
        self._passes = Passes(task, model)
        self._batch = batch
        self._seed = seed
        self._worker = worker
        self._criterion = CRITERIA[criterion]
        self._asked = asked
        self._prepared: tuple[Tensor, Tensor, Step] | None = None

    def prepare(self, round: int, base: str, theta: Vector, taken: Step) -> None:
        """Compute what the vote of this round needs and does not have to wait for the candidates.

        Asked again for the round and base that it prepared last, it changes nothing.

        Args:
            round: the round's number t.
            base: digest of `theta`.
            theta: the model that both candidates will be steps from, (d,).
            taken: gamma and keep of these steps.

        Raises:
            OstrakonError: as `Training.momentum`.
        """
        if self._asked is not None:
            vector = self._asked.momentum(round, base, theta).vector
            self._prepared = torch.from_numpy(vector), torch.from_numpy(theta), taken

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        """Vote in round `round` between two candidate models, (d,) each, on the same new mini-batch.

        Raises:
            OstrakonError: a candidate does not fit the task's model; the task's code raises, or breaks the contract.
        """
        batch = draw(self._examples, self._batch, generator(self._seed, VOTE, self._worker, round))
        what = Draw(self._seed, VOTE, self._worker, round)
        candidates = torch.from_numpy(inner), torch.from_numpy(outer)
        inner_losses, outer_losses = (self._passes.losses(theta, batch, what) for theta in candidates)
        evidence = Evidence(inner_losses, outer_losses, self._gain(*candidates), self._nearness(*candidates))
        choice: Choice = "outer" if self._criterion.prefers_outer(evidence) else "inner"
        return Ballot(choice, evidence.inner_mean.item(), evidence.outer_mean.item())

    def _gain(self, inner: Tensor, outer: Tensor) -> Tensor | float:
        asked = self._asked
        if self._criterion.asks != "second momentum" or asked is None or self._prepared is None:
            return math.nan
        if asked.gradients < rounds_until_heard(asked.beta):
            return math.nan
        v, _, _ = self._prepared
        return gain(v, inner, outer)

    def _nearness(self, inner: Tensor, outer: Tensor) -> Tensor | float:
        if self._criterion.asks != "own momentum" or self._prepared is None:
            return math.nan
        m, theta, taken = self._prepared
        return nearness(m, theta, inner, outer, taken)
