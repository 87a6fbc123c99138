"""Local momentum, computed on the device (Algorithm 1, the worker's lines)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ostrakon.common.algorithm import clip, momentum
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.setting_types import Precision
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.passes import Draw, Passes
from ostrakon.worker.sampling import TRAINING, draw, generator, place


class Source(Protocol):
    """Mini-batches that are not drawn from examples in memory: `ostrakon.common.tasks.feed.Feed`."""

    def batch(self, purpose: int, round: int) -> Examples:
        """The mini-batch of a round; the same when asked again."""
        ...


@dataclass(frozen=True)
class Momentum:
    """What one round of training gives.

    Attributes:
        vector: m_t, (d,) float32, contiguous. On a CPU it is the worker's momentum itself: read it, never write
            into it, and be done with it before another round is trained.
        loss: mean loss of the mini-batch at the base model.
        finite: whether the gradient is; if not, `vector` is what it was before this round.
    """

    vector: NDArray[np.float32]
    loss: float
    finite: bool


class Training:
    """One worker's momentum over the rounds. It starts at 0 and is the worker's own.

    Attributes:
        beta: as given.
        gradients: how many the momentum holds: those of the rounds trained so far that were finite.

    Args:
        examples: the worker's own, or what gives its mini-batches.
        model: where the computing is done; what it holds is overwritten, so it may be shared with the voter.
        batch: examples in a mini-batch.
        beta: momentum coefficient in [0, 1).
        clip: the largest norm that a mini-batch's gradient keeps; None: whatever it has.
        precision: of the passes.
        seed, worker, purpose: the mini-batch of a round, and whatever the task's code draws in it, follow from these
            three and the round's number alone.
    """

    def __init__(
        self,
        task: Task,
        examples: Examples | Source,
        model: FlatModel,
        *,
        batch: int,
        beta: float,
        seed: int,
        worker: int,
        purpose: int = TRAINING,
        clip: float | None = None,
        precision: Precision = "float32",
    ) -> None:
        # May be replaced between rounds; examples are best in place already, see `sampling.place`.
        self.examples: Examples | Source = examples
        self._passes = Passes(task, model, precision)
        self._batch = batch
        self.beta = beta
        self._seed = seed
        self._worker = worker
        self._purpose = purpose
        self._clip = clip
        self.gradients = 0
        self._momentum = torch.zeros_like(model.theta)
        self._trained: tuple[int, str] | None = None
        self._result: Momentum | None = None

    def momentum(self, round: int, base: str, theta: NDArray[np.float32]) -> Momentum:
        """Train for one round: `m_t = beta * m_{t-1} + (1 - beta) * g_t`, g_t the gradient of a fresh mini-batch.

        Asked again for the round and base that it trained last, it returns the same result and changes nothing.

        Args:
            round: the round's number t.
            base: digest of `theta`.
            theta: the model to take the gradient at, (d,).

        Raises:
            OstrakonError: `theta` does not fit the task's model; the task's code raises, or breaks the contract.
        """
        if self._result is None or self._trained != (round, base):
            self._result = self._train(round, theta)
            self._trained = (round, base)
        return self._result

    def _train(self, round: int, theta: NDArray[np.float32]) -> Momentum:
        gradient = self._passes.model.gradient
        batch = self._drawn(round, gradient.device)
        what = Draw(self._seed, self._purpose, self._worker, round)
        loss = self._passes.gradient(torch.from_numpy(theta), batch, what)
        finite = bool(torch.isfinite(gradient).all())
        if finite and self._clip is not None:
            clip(gradient, self._clip)
        if finite:
            self._momentum = momentum(self._momentum, gradient, self.beta)
            self.gradients += 1
        return Momentum(self._momentum.cpu().numpy(), loss, finite)

    def _drawn(self, round: int, device: torch.device) -> Examples:
        if not isinstance(self.examples, Examples):
            return place(self.examples.batch(self._purpose, round), device)
        rng = generator(self._seed, self._purpose, self._worker, round)
        return draw(place(self.examples, device), self._batch, rng)
