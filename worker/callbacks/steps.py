"""Rounds, one for each optimizer step of a trainer."""

from collections.abc import Callable

from torch import nn

from ostrakon.worker.embedded.judging import Criterion, Loss
from ostrakon.worker.embedded.round import Round
from ostrakon.worker.embedded.worker import Worker

By = Callable[[], Loss | Criterion]
"""Asked once a round: what is given to its vote."""


class Steps:
    """Takes part in a round with the gradients that a trainer has made, in place of its optimizer."""

    def __init__(self, worker: Worker, by: By) -> None:
        self._rounds = iter(worker)
        self._by = by
        self._round: Round | None = None

    def next(self) -> bool:
        """Wait for the next round, whose model is the trainer's then; whether there is one."""
        self._round = next(self._rounds, None)
        return self._round is not None

    def take(self, module: nn.Module) -> None:
        """Submit and vote; no gradient is left, so that the optimizer that comes next moves nothing."""
        if self._round is not None:
            self._round.submit()
            self._round.vote(self._by())
        module.zero_grad(set_to_none=True)
