"""What a training loop does in a round: submit, vote. Both once, both or either or neither."""

import math
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any, TypeVar

import structlog

from ostrakon.common.choice import Ballot, Choice
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import Vector
from ostrakon.worker.embedded.judging import Criterion, Loss, ballot_by_losses, ballot_unseen, check_criterion
from ostrakon.worker.embedded.model import LocalModel, number, own_vector, read_only
from ostrakon.worker.rounds import Begun, Rounds
from ostrakon.worker.training import Momentum

log = structlog.get_logger()

T = TypeVar("T")


class _Turn:
    """A round as a loop has it: everything but the network.

    Attributes:
        number: t, from 1 on.
    """

    def __init__(self, begun: Begun, rounds: Rounds, model: LocalModel) -> None:
        self.number = begun.number
        self._begun = begun
        self._rounds = rounds
        self._model = model
        self._sent: Momentum | None = None
        self._voted = False

    @cached_property
    def theta(self) -> Vector:
        """The model that it starts from, (d,) float32, read-only."""
        return read_only(self._begun.theta)

    def _open(self) -> bool:
        """Whether it is the worker's present one: a loop may keep an older one."""
        return self._rounds.begun is self._begun

    def _momentum(self, vector: Any, loss: Any) -> Momentum | None:
        """What is to be sent; None where the round has gone on without this worker: nothing is folded then."""
        if self._sent is not None:
            raise OstrakonError(f"round {self.number} has its momentum already: submit once a round")
        if self._voted:
            raise OstrakonError(f"round {self.number} has been voted in already: submit comes before vote")
        if not self._open():
            return None
        self._sent = self._rounds.submitted(self._begun)
        if self._sent is None:
            model, loss = self._model, number(loss)
            self._sent = model.momentum(loss) if vector is None else own_vector(vector, model.parameters, loss)
            if not self._sent.finite:
                log.warning("a gradient or vector that is not finite counts as none", round=self.number)
        return self._sent

    def _begin_vote(self, by: Loss | Criterion) -> None:
        check_criterion(by)
        self._voted = True

    def _ballot(self, by: Loss | Criterion, inner: Vector, outer: Vector) -> Ballot:
        if callable(by):
            return ballot_by_losses(self._model, by, inner, outer)
        sent = None if self._sent is None else self._sent.vector
        return ballot_unseen(by, sent, self._begun.theta, self._rounds.taken, inner, outer)


class Round(_Turn):
    """A round of a plain loop. Its methods raise `OstrakonError` where this worker cannot go on."""

    def __init__(
        self, begun: Begun, rounds: Rounds, model: LocalModel, call: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        super().__init__(begun, rounds, model)
        self._call = call

    def submit(self, vector: Any = None, *, loss: Any = math.nan) -> bool:
        """Send this round's momentum.

        Args:
            vector: (d,), what is sent; without it the gradients of the model's parameters are folded into the momentum,
                and that is sent.
            loss: of the mini-batch, a number or a tensor of one, for people: the server shows the median of all.

        Returns:
            Whether the server has taken it; False where the others went on without it.
        """
        momentum = self._momentum(vector, loss)
        return momentum is not None and bool(self._call(self._rounds.submit(momentum)))

    def vote(self, by: Loss | Criterion) -> Choice | None:
        """Vote on this round's candidates, and wait for what is committed.

        Args:
            by: a function that returns the loss of the model as it is, called with either candidate in it, in
                evaluation mode and without gradients (without a model: with the candidate, (d,), as its argument); or
                `inner`, `outer`, or `proximity`. Take the batch before: both are to be judged on the same one.

        Returns:
            What was voted for; None where there was no vote. The model holds again what the round started from.
        """
        self._begin_vote(by)
        choice: Choice | None = None
        while self._open() and (candidates := self._call(self._rounds.candidates())) is not None:
            ballot = self._ballot(by, *candidates)
            self._call(self._rounds.vote(ballot))
            choice = ballot.choice
        return choice


class AsyncRound(_Turn):
    """A round of an `async for` loop: as `Round`, with methods to be awaited."""

    async def submit(self, vector: Any = None, *, loss: Any = math.nan) -> bool:
        """As `Round.submit`."""
        momentum = self._momentum(vector, loss)
        return momentum is not None and await self._rounds.submit(momentum)

    async def vote(self, by: Loss | Criterion) -> Choice | None:
        """As `Round.vote`; the function is called in this thread, and the event loop waits for it."""
        self._begin_vote(by)
        choice: Choice | None = None
        while self._open() and (candidates := await self._rounds.candidates()) is not None:
            ballot = self._ballot(by, *candidates)
            await self._rounds.vote(ballot)
            choice = ballot.choice
        return choice
