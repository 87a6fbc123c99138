"""One process life of a worker: what the state machine in `part.py` says, done over a transport."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import structlog

from ostrakon.common.algorithm import Step
from ostrakon.common.bf16 import ErrorFeedback, Wire, candidate
from ostrakon.common.choice import Ballot, Outcome
from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.layout import Layout
from ostrakon.common.tasks.data import DataNotReadable
from ostrakon.common.wire import PROTOCOL, Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.backoff import Backoff
from ostrakon.worker.introduction import introduction
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
    advance,
)
from ostrakon.worker.settings import SERVER_TIMEOUT
from ostrakon.worker.submission import Submission
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import CallFailed, Models, Transport, receive_models

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 1.0  # at data that cannot be read
LONGEST_EXCUSE = 500  # characters

OUTCOMES: dict[int, Outcome] = {pb.RUN_PHASE_COMPLETED: "completed", pb.RUN_PHASE_DIVERGED: "diverged"}


class Learner(Protocol):
    """What a worker computes."""

    def begin(self, position: int, workers: int) -> None:
        """Take the examples of this place on the roster; called after every Join."""
        ...

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        """The momentum of this round."""
        ...

    def prepare(self, round: int, base: str, theta: Vector, taken: Step) -> None:
        """What the vote of this round needs and does not have to wait for the candidates; may be called again."""
        ...

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        """The vote of this round."""
        ...


class Session:
    """Takes part in a run until it is over."""

    def __init__(
        self,
        task: str,
        parameters: int,
        learner: Learner,
        transport: Transport,
        clock: Clock,
        *,
        layout: Layout = (),
        constants: str = "",
        data_timeout: float = 60.0,
        server_timeout: float = SERVER_TIMEOUT,
        diagnose: Callable[[], str | None] = lambda: None,
        offload: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        """`layout` and `constants` say what the model is, beside its number of parameters: see `introduction`;
        `data_timeout`: seconds that data which cannot be read are waited for, `server_timeout`: seconds that a server
        is which does not answer; `diagnose` says, blocking, why it cannot be reached if no waiting will help;
        `offload(f, *args)` runs blocking work off the event loop.
        """
        self._built_for = introduction(task, parameters, layout, constants)
        self._parameters = parameters
        self._data_timeout = data_timeout
        self._unreadable_since: float | None = None
        self._clock = clock
        self._learner = learner
        self._transport = transport
        self._backoff = Backoff(clock, diagnose, offload, timeout=server_timeout)
        self._offload = offload
        self._name = uuid.uuid4().hex
        self._part = Part()
        self._run = ""
        self._taken = Step(0.0)  # of the round that this worker is in
        self._wire: Wire = "float32"
        self._feedback = ErrorFeedback()
        self._head = pb.Head()
        self._held: dict[str, Vector] = {}  # committed model and, between Propose and the commit, both candidates
        self._momentum: Momentum | None = None
        self._ballot: Ballot | None = None

    async def take_part(self) -> Outcome:
        """Work until the run is over.

        Raises:
            OstrakonError: this worker is not let in, or cannot go on.
        """
        action: Action = Join()
        while True:
            match action:
                case End(outcome):
                    return outcome
                case GiveUp(sentence):
                    raise OstrakonError(sentence)
            try:
                following = advance(self._part, await self._perform(action))
            except CallFailed as error:
                log.info("call failed", call=type(action).__name__, status=error.status, why=str(error))
                following = advance(self._part, Failed(error.status, error.reason, str(error)))
                if isinstance(following, Again):
                    await self._backoff.pause(following.attempt, error)
                    following = action
            action = following

    async def _perform(self, action: Action) -> Event:
        match action:
            case Join():
                return await self._join()
            case Restore(digest):
                return await self._restore(digest)
            case Receive(after):
                return await self._receive(after)
            case Train(round, base):
                momentum = await self._offload(self._learner.momentum, round, base, self._held[base])
                self._momentum = await self._rounded(round, base, momentum)
                return Trained()
            case Submit(_, base):
                response = await self._transport.submit(self._submission(base))
                self._check(response.stamp)
                return Submitted()
            case Inspect(round, base):
                return await self._inspect(round, base)
            case Vote(round):
                return await self._vote(round)
        raise RuntimeError(f"{action} is nothing to perform")

    async def _join(self) -> Event:
        response = await self._introduce()
        while (trouble := await self._unreadable(response)) is not None:
            response = await self._introduce(trouble)  # nobody is to wait for us meanwhile
            await self._clock.wait(asyncio.Event(), self._clock.now() + LOOK_AGAIN_SECONDS)
        if self._unreadable_since is not None:
            log.info("data are readable now")
            self._unreadable_since = None
            response = await self._introduce()
        log.info("joined", run=self._run, term=response.stamp.term, position=response.position, rule=response.rule)
        return Joined(response.stamp.term, response.two_phase, response.wanted)

    async def _introduce(self, data_not_readable: str = "") -> pb.JoinResponse:
        request = pb.JoinRequest(
            stamp=self._stamp(),
            session=self._name,
            head=self._head,
            holds=list(self._held),
            data_not_readable=data_not_readable,
        )
        request.MergeFrom(self._built_for)
        response = await self._transport.join(request)
        self._run = response.stamp.run
        self._wire = "bf16" if response.wire == pb.WIRE_BF16 else "float32"
        return response

    async def _unreadable(self, place: pb.JoinResponse) -> str | None:
        """Take the examples of this place on the roster; returns what is wrong with them, None for nothing.

        Raises:
            DataNotReadable: they have been so for too long.
        """
        try:
            await self._offload(self._learner.begin, place.position, place.workers)
        except DataNotReadable as error:
            now = self._clock.now()
            if self._unreadable_since is None:
                self._unreadable_since = now
                log.warning("data not readable", why=str(error), waiting_seconds=self._data_timeout)
            if now - self._unreadable_since >= self._data_timeout:
                raise
            return str(error)[:LONGEST_EXCUSE]
        return None

    async def _restore(self, wanted: str) -> Event:
        model = self._held[wanted]
        await self._transport.restore(Submission(self._stamp(), self._name, wanted, len(model), model))
        log.info("restored", digest=wanted)
        return Restored()

    async def _receive(self, after: int) -> Event:
        request = pb.BroadcastRequest(stamp=self._stamp(), after=after, holds=list(self._held), session=self._name)
        models = await receive_models(self._transport.broadcast(request))
        self._check(models.stamp)
        self._head = models.header.head
        self._taken = _step(models.header.step)
        self._keep(models, list(models.header.digests))
        base = models.header.digests[0]
        return Received(models.stamp.round, base, OUTCOMES.get(models.header.phase))

    async def _inspect(self, round: int, base: str) -> Event:
        # Between the submission and the candidates, while others submit.
        await self._offload(self._learner.prepare, round, base, self._held[base], self._taken)
        request = pb.ProposeRequest(stamp=self._stamp(), holds=list(self._held), session=self._name)
        form = None if self._wire == "float32" else partial(candidate, self._held[base], taken=self._taken)
        models = await receive_models(self._transport.propose(request), form=form)
        self._check(models.stamp)
        if models.header.HasField("decided"):
            self._adopt(models.header.decided)
            return Decided(round)
        inner, outer = models.header.digests
        self._keep(models, [*self._held, inner, outer])
        self._ballot = await self._offload(self._learner.judge, round, self._held[inner], self._held[outer])
        return Judged()

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
        self._taken = _step(response.step)
        begun = response.stamp.round == round + 1 and response.phase == pb.RUN_PHASE_COLLECTING
        return Decided(round, response.commit.digest if begun and response.commit.digest in self._held else "")

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
        self._head = commit.head
        self._held = {name: vector for name, vector in self._held.items() if name == commit.digest}

    def _keep(self, models: Models, digests: list[str]) -> None:
        known = self._held | models.vectors
        self._held = {name: known[name] for name in digests}

    def _stamp(self) -> pb.Stamp:
        return pb.Stamp(protocol=PROTOCOL, run=self._run, term=self._part.term, round=self._part.round)

    async def _rounded(self, round: int, base: str, momentum: Momentum) -> Momentum:
        """What is sent of a momentum."""
        if self._wire == "float32" or not momentum.finite:
            return momentum
        return replace(momentum, vector=await self._offload(self._feedback, round, base, momentum.vector))

    def _submission(self, base: str) -> Submission:
        momentum = self._momentum
        if momentum is None:
            raise RuntimeError("a submission without a momentum")
        vector = momentum.vector if momentum.finite else None
        return Submission(self._stamp(), self._name, base, self._parameters, vector, momentum.loss, self._wire)


def _step(message: pb.Step) -> Step:
    return Step(message.gamma, message.keep)
