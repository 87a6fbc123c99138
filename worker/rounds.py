"""A worker's rounds, one after the other: what the state machine in `part.py` says, done over a transport.

Whoever computes asks for the next round, submits a momentum, looks at the candidates and votes. Connections that break,
servers that are started again or have lost their model, and rounds that go on without this worker are seen to in here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from ostrakon.common.algorithm import Step
from ostrakon.common.bf16 import ErrorFeedback
from ostrakon.common.choice import Ballot, Outcome
from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.backoff import Backoff
from ostrakon.worker.exchange import Exchange
from ostrakon.worker.part import (
    Action,
    Again,
    End,
    Event,
    Failed,
    GiveUp,
    Inspect,
    Join,
    Judged,
    Left,
    Part,
    Receive,
    Restore,
    Submit,
    Train,
    Trained,
    Vote,
    Withheld,
    advance,
)
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import CallFailed, Transport

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 1.0  # at what keeps this worker from taking part

# Takes the place (position, workers) on the roster; returns why this worker cannot take part yet, None if it can.
TakePlace = Callable[[int, int], Awaitable[str | None]]


@dataclass(frozen=True)
class Begun:
    """A round that this worker may take part in: its number t, and theta_{t-1}, (d,), with its digest."""

    number: int
    base: str
    theta: Vector


class Rounds:
    """One process life of a worker, round by round. Every method raises `OstrakonError` where it cannot go on.

    One call at a time. What is said in a round that has gone on without this worker does nothing.

    Attributes:
        begun: the round that `next` has returned last.
        outcome: how the run has ended; None before.
        exchange: what was said to the server, and is believed of its answers.
    """

    def __init__(
        self,
        built_for: pb.JoinRequest,
        transport: Transport,
        clock: Clock,
        *,
        take_place: TakePlace,
        server_timeout: float,
        diagnose: Callable[[], str | None],
        offload: Callable[..., Awaitable[Any]],
    ) -> None:
        """`built_for`: see `introduction`; `server_timeout`: seconds that a server is waited for which does not answer;
        `diagnose` says, blocking, why it cannot be reached if no waiting will help; `offload(f, *args)` runs blocking
        work off the event loop.
        """
        self.begun: Begun | None = None
        self.outcome: Outcome | None = None
        self._part = Part()
        self.exchange = Exchange(built_for, transport, self._part)
        self._clock = clock
        self._take_place = take_place
        self._backoff = Backoff(clock, diagnose, offload, timeout=server_timeout)
        self._offload = offload
        self._action: Action = Join()
        self._feedback = ErrorFeedback()
        self._answer: tuple[tuple[int, str], Momentum | None] | None = None  # to (round, base); None: withheld
        self._submitted: tuple[tuple[int, str], Momentum] | None = None  # the last one, as it was given
        self._accepted = False
        self._ballot: Ballot | None = None

    @property
    def place(self) -> pb.JoinResponse:
        """The server's answer to the last Join."""
        return self.exchange.place

    @property
    def taken(self) -> Step:
        """How far the round's candidates go."""
        return self.exchange.taken

    @property
    def theta(self) -> Vector:
        """The committed model, (d,), that was received last.

        Raises:
            OstrakonError: none was.
        """
        theta = self.exchange.theta
        if theta is None:
            raise OstrakonError("no model has come yet: the worker has theta from its first round on")
        return theta

    @property
    def voting(self) -> bool:
        """Whether this worker is about to look at candidates."""
        return isinstance(self._action, Inspect)

    async def join(self) -> None:
        """Be let in, and take a place; `next` does so too."""
        while not self.place.workers:
            await self._step()

    async def next(self) -> Begun | None:
        """Leave the round that is under way and wait for the next one; None once the run is over."""
        if self._under_way():
            self._action = advance(self._part, Left())
        self.begun = self._answer = self.exchange.candidates = None
        await self._go_on()
        match self._action:
            case End(outcome):
                self.outcome = outcome
            case Train(round, base):
                self.begun = Begun(round, base, self.exchange.held[base])
        return self.begun

    def submitted(self, begun: Begun) -> Momentum | None:
        """The momentum of this round, where it was submitted before: to a server that died, and began the round again.

        It is the round's only one, and the same bytes are to be sent again.
        """
        at, momentum = self._submitted or (None, None)
        return momentum if at == (begun.number, begun.base) else None

    async def submit(self, momentum: Momentum) -> bool:
        """Send the momentum of the round, its only one; returns whether the server has taken it."""
        self._accepted = False
        if self._to_answer():
            self._submitted = (self._part.round, self._part.base), momentum
            await self._answered(momentum)
            await self._go_on()
        return self._accepted

    async def candidates(self) -> tuple[Vector, Vector] | None:
        """Wait for both candidates of the round, Inner and Outer, (d,) each; None where there is no vote for us.

        After a vote there is none any more, unless the server was started again meanwhile: then there may be others.
        """
        if self._to_answer():
            await self._answered(None)
        if self._under_way():
            await self._go_on(look=True)
            await self._hear_of_the_end()
        return self.exchange.candidates

    async def vote(self, ballot: Ballot) -> None:
        """Vote, and wait for the outcome."""
        if self.exchange.candidates is not None:
            self.exchange.candidates, self._ballot = None, ballot
            self._action = advance(self._part, Judged())
            await self._go_on()
            await self._hear_of_the_end()

    def _to_answer(self) -> bool:
        """Whether the round under way has heard nothing from us."""
        return self._answer is None and self._under_way()

    def _under_way(self) -> bool:
        begun = self.begun
        return begun is not None and (self._part.round, self._part.base) == (begun.number, begun.base) and self._open()

    def _open(self) -> bool:
        over = isinstance(self._action, End)
        return self.begun is not None and self._part.done < self.begun.number and not over

    async def _answered(self, momentum: Momentum | None) -> None:
        at = (self._part.round, self._part.base)
        if momentum is not None and momentum.finite and self.exchange.wire == "bf16":
            momentum = replace(momentum, vector=await self._offload(self._feedback, *at, momentum.vector))
        self._answer = at, momentum

    async def _go_on(self, *, look: bool = False) -> None:
        """Do what is to be done until it is the caller's turn; `look`: the caller asks for the candidates."""
        while True:
            match self._action:
                case End():
                    return
                case Train(round, base) if self._answer is None or self._answer[0] != (round, base):
                    return
                case Inspect() if not look or self.exchange.candidates is not None:
                    return
            if self.begun is not None and not self._open():
                return
            await self._step()

    async def _hear_of_the_end(self) -> None:
        """After the last commit: while the server is there to tell, however long the caller takes before `next`."""
        while self._part.committed >= self.place.rounds and isinstance(self._action, Receive | Join | Restore):
            await self._step()

    async def _step(self) -> None:
        action = self._action
        if isinstance(action, GiveUp):
            raise OstrakonError(action.sentence)
        try:
            event = await self._perform(action)
        except CallFailed as error:
            log.info("call failed", call=type(action).__name__, status=error.status, why=str(error))
            following = advance(self._part, Failed(error.status, error.reason, str(error)))
            if isinstance(following, Again):
                await self._backoff.pause(following.attempt, error)
            else:
                self._action = following
        else:
            if event is not None:
                self._action = advance(self._part, event)

    async def _perform(self, action: Action) -> Event | None:
        """Returns None where the caller has to act first."""
        exchange, momentum = self.exchange, None if self._answer is None else self._answer[1]
        match action:
            case Join():
                return await self._join()
            case Restore(digest):
                return await exchange.restore(digest)
            case Receive(after):
                return await exchange.receive(after)
            case Train():
                return Withheld() if momentum is None else Trained()
            case Submit(_, base) if momentum is not None:
                submitted = await exchange.submit(base, momentum)
                self._accepted = True
                return submitted
            case Inspect(round, base):
                return await exchange.inspect(round, base)
            case Vote(round) if self._ballot is not None:
                return await exchange.vote(round, self._ballot)
        raise RuntimeError(f"{action} is nothing to perform")

    async def _join(self) -> Event:
        exchange = self.exchange
        response = await exchange.introduce()
        excuse = await self._take_place(response.position, response.workers)
        if excuse is not None:
            while excuse is not None:
                response = await exchange.introduce(excuse)  # nobody is to wait for us meanwhile
                await self._clock.wait(asyncio.Event(), self._clock.now() + LOOK_AGAIN_SECONDS)
                excuse = await self._take_place(response.position, response.workers)
            response = await exchange.introduce()
        return exchange.joined(response)
