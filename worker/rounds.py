"""A worker's rounds, one after the other: what the state machine in `part.py` says, done over a transport.

Whoever computes asks for the next round, submits a momentum, looks at the candidates and votes. Connections that break,
servers that are started again or have lost their model, and rounds that go on without this worker are seen to in here.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from ostrakon.common.algorithm import Step
from ostrakon.common.bf16 import ErrorFeedback, Wire, candidate
from ostrakon.common.choice import Ballot, Outcome
from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import PROTOCOL, Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.backoff import Backoff
from ostrakon.worker.part import (
    Action,
    Again,
    Decided,
    End,
    Event,
    Failed,
    GiveUp,
    Inspect,
    Join,
    Joined,
    Judged,
    Left,
    Part,
    Receive,
    Received,
    Restore,
    Restored,
    Submit,
    Submitted,
    Train,
    Trained,
    Vote,
    Withheld,
    advance,
)
from ostrakon.worker.submission import Submission
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import CallFailed, Models, Transport, receive_models

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 1.0  # at what keeps this worker from taking part

OUTCOMES: dict[int, Outcome] = {pb.RUN_PHASE_COMPLETED: "completed", pb.RUN_PHASE_DIVERGED: "diverged"}

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
        place: the server's answer to the last Join.
        outcome: how the run has ended; None before.
        taken: how far the round's candidates go.
        head: the last ledger entry that it was told of.
        held: models by digest: the committed one and, between Propose and the commit, both candidates.
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
        self.place = pb.JoinResponse()
        self.outcome: Outcome | None = None
        self.taken = Step(0.0)
        self.head = pb.Head()
        self.held: dict[str, Vector] = {}
        self._built_for = built_for
        self._transport = transport
        self._clock = clock
        self._take_place = take_place
        self._backoff = Backoff(clock, diagnose, offload, timeout=server_timeout)
        self._offload = offload
        self._name = uuid.uuid4().hex
        self._part = Part()
        self._action: Action = Join()
        self._run = ""
        self._wire: Wire = "float32"
        self._feedback = ErrorFeedback()
        self._theta: Vector | None = None
        self._answer: tuple[tuple[int, str], Momentum | None] | None = None  # to (round, base); None: withheld
        self._submitted: tuple[tuple[int, str], Momentum] | None = None  # the last one, as it was given
        self._accepted = False
        self._candidates: tuple[Vector, Vector] | None = None
        self._ballot: Ballot | None = None

    @property
    def theta(self) -> Vector:
        """The committed model, (d,), that was received last.

        Raises:
            OstrakonError: none was.
        """
        if self._theta is None:
            raise OstrakonError("there is no model before the first round: ask for it inside the loop")
        return self._theta

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
        self.begun = self._answer = self._candidates = None
        await self._go_on()
        match self._action:
            case End(outcome):
                self.outcome = outcome
            case Train(round, base):
                self.begun = Begun(round, base, self.held[base])
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
        return self._candidates

    async def vote(self, ballot: Ballot) -> None:
        """Vote, and wait for the outcome."""
        if self._candidates is not None:
            self._candidates, self._ballot = None, ballot
            self._action = advance(self._part, Judged())
            await self._go_on()

    def _to_answer(self) -> bool:
        """Whether the round under way has heard nothing from us."""
        return self._answer is None and self._under_way()

    def _under_way(self) -> bool:
        begun = self.begun
        return begun is not None and (self._part.round, self._part.base) == (begun.number, begun.base) and self._open()

    def _open(self) -> bool:
        over = isinstance(self._action, End)
        return self.begun is not None and not over and self._part.done < self.begun.number

    async def _answered(self, momentum: Momentum | None) -> None:
        at = (self._part.round, self._part.base)
        if momentum is not None and momentum.finite and self._wire == "bf16":
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
                case Inspect() if not look or self._candidates is not None:
                    return
            if self.begun is not None and not self._open():
                return
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
        match action:
            case Join():
                return await self._join()
            case Restore(digest):
                return await self._restore(digest)
            case Receive(after):
                return await self._receive(after)
            case Train():
                return Withheld() if self._answer is None or self._answer[1] is None else Trained()
            case Submit(_, base):
                response = await self._transport.submit(self._submission(base))
                self._check(response.stamp)
                self._accepted = True
                return Submitted()
            case Inspect(round, base):
                return await self._inspect(round, base)
            case Vote(round):
                return await self._vote(round)
        raise RuntimeError(f"{action} is nothing to perform")

    async def _join(self) -> Event:
        response = await self._introduce()
        excuse = await self._take_place(response.position, response.workers)
        if excuse is not None:
            while excuse is not None:
                response = await self._introduce(excuse)  # nobody is to wait for us meanwhile
                await self._clock.wait(asyncio.Event(), self._clock.now() + LOOK_AGAIN_SECONDS)
                excuse = await self._take_place(response.position, response.workers)
            response = await self._introduce()
        log.info("joined", run=self._run, term=response.stamp.term, position=response.position, rule=response.rule)
        self.place = response
        return Joined(response.stamp.term, response.two_phase, response.wanted)

    async def _introduce(self, excuse: str = "") -> pb.JoinResponse:
        request = pb.JoinRequest(
            stamp=self._stamp(),
            session=self._name,
            head=self.head,
            holds=list(self.held),
            data_not_readable=excuse,
        )
        request.MergeFrom(self._built_for)
        response = await self._transport.join(request)
        self._run = response.stamp.run
        self._wire = "bf16" if response.wire == pb.WIRE_BF16 else "float32"
        return response

    async def _restore(self, wanted: str) -> Event:
        model = self.held[wanted]
        await self._transport.restore(Submission(self._stamp(), self._name, wanted, len(model), model))
        log.info("restored", digest=wanted)
        return Restored()

    async def _receive(self, after: int) -> Event:
        request = pb.BroadcastRequest(stamp=self._stamp(), after=after, holds=list(self.held), session=self._name)
        models = await receive_models(self._transport.broadcast(request), self._built_for.parameters)
        self._check(models.stamp)
        self.head = models.header.head
        self.taken = _step(models.header.step)
        self._keep(models, list(models.header.digests))
        base = models.header.digests[0]
        self._theta = self.held[base]
        return Received(models.stamp.round, base, OUTCOMES.get(models.header.phase))

    async def _inspect(self, round: int, base: str) -> Event | None:
        request = pb.ProposeRequest(stamp=self._stamp(), holds=list(self.held), session=self._name)
        form = None if self._wire == "float32" else partial(candidate, self.held[base], taken=self.taken)
        models = await receive_models(self._transport.propose(request), self._built_for.parameters, count=2, form=form)
        self._check(models.stamp)
        if models.header.HasField("decided"):
            self._adopt(models.header.decided)
            return Decided(round)
        inner, outer = models.header.digests
        self._keep(models, [*self.held, inner, outer])
        self._candidates = self.held[inner], self.held[outer]
        return None

    async def _vote(self, round: int) -> Event:
        if self._ballot is None:
            raise RuntimeError("a vote without a ballot")
        response = await self._transport.vote(
            pb.VoteRequest(
                stamp=self._stamp(),
                session=self._name,
                choice=pb.CHOICE_INNER if self._ballot.choice == "inner" else pb.CHOICE_OUTER,
                inner_loss=self._ballot.inner_loss,
                outer_loss=self._ballot.outer_loss,
            )
        )
        self._check(response.stamp)
        self._adopt(response.commit)
        self.taken = _step(response.step)
        begun = response.stamp.round == round + 1 and response.phase == pb.RUN_PHASE_COLLECTING
        return Decided(round, response.commit.digest if begun and response.commit.digest in self.held else "")

    def _check(self, stamp: pb.Stamp) -> None:
        """An answer counts only if the server that we have joined gave it: no older one, of no other run."""
        if (stamp.protocol, stamp.run, stamp.term) != (PROTOCOL, self._run, self._part.term):
            raise CallFailed(
                "INTERNAL",
                None,
                f"an answer of run {stamp.run}, term {stamp.term} came to run {self._run}, term {self._part.term}",
            )

    def _adopt(self, commit: pb.Commit) -> None:
        """Remember what was committed, and keep its model alone."""
        self.head = commit.head
        self.held = {name: vector for name, vector in self.held.items() if name == commit.digest}
        self._theta = self.held.get(commit.digest, self._theta)

    def _keep(self, models: Models, digests: list[str]) -> None:
        known = self.held | models.vectors
        if not digests or not known.keys() >= set(digests):
            raise CallFailed("INTERNAL", None, "the server names models that are neither sent nor held")
        self.held = {name: known[name] for name in digests}

    def _stamp(self) -> pb.Stamp:
        return pb.Stamp(protocol=PROTOCOL, run=self._run, term=self._part.term, round=self._part.round)

    def _submission(self, base: str) -> Submission:
        momentum = None if self._answer is None else self._answer[1]
        if momentum is None:
            raise RuntimeError("a submission without a momentum")
        vector = momentum.vector if momentum.finite else None
        d = self._built_for.parameters
        return Submission(self._stamp(), self._name, base, d, vector, momentum.loss, self._wire)


def _step(message: pb.Step) -> Step:
    return Step(message.gamma, message.keep)
