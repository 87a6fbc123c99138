"""The committed model, asked back from the workers when the server's disk has lost it.

Stands where a coordinator and its calls stand otherwise. A Join is answered to workers that hold the model only: they
send it. Nobody has to be trusted with that: a model is taken for what its digest says, and the ledger names the digest.

It is given up only when every member that is not revoked has said no: f liars say so too, and others come late.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import numpy as np
import structlog

from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import PROTOCOL, Vector
from ostrakon.server.core.metrics import Traffic
from ostrakon.server.core.refusal import Code, Refusals, Refused
from ostrakon.server.core.roster import Roster
from ostrakon.server.core.uploads import Uploads, upload_slots
from ostrakon.server.rpc.answers import Send
from ostrakon.server.rpc.joining import (
    check_built_for,
    check_protocol,
    check_session_is_named,
    check_term,
    known_head,
    old_copy,
    welcome,
)
from ostrakon.server.rpc.quota import Quota
from ostrakon.server.rpc.status import check_reader, standing
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.run import ModelLost
from ostrakon.v1 import parameter_server_pb2 as pb

log = structlog.get_logger()

SAY_AGAIN_SECONDS = 30.0
LOOK_SECONDS = 2.0  # between two looks at who is revoked: no round begins, in which that is looked up otherwise


class Recovery:
    """Answers while the model of the head is looked for. Calls raise `Refused` if they must not be answered."""

    def __init__(
        self,
        settings: ServerSettings,
        lost: ModelLost,
        term: int,
        clock: Clock,
        *,
        two_phase: bool,
        revoked: Callable[[], frozenset[Identity]] = frozenset,
    ) -> None:
        """`revoked` is asked time and again who is shut out."""
        self.term = term
        self.traffic = Traffic()
        self.quota = Quota(lost.run.genesis.parameters)
        self.settings = settings
        self._lost = lost
        self._run = lost.run
        self._clock = clock
        self._two_phase = two_phase
        self._revoked = revoked
        self._roster = Roster(settings.roster, settings.absent_after, revoked=lost.run.revoked)
        self._d = lost.run.genesis.parameters
        # As in a round: a row of memory per member, and one more upload at a time than there are liars.
        self.uploads = Uploads(upload_slots(settings), settings.upload_timeout, settings.upload_rate)
        self._rows: dict[str, Vector] = {}
        self._refusals = Refusals()
        self._in_vain: set[str] = set()  # members whose newest session does not hold it, or sent something else
        self._spoilt: dict[str, str] = {}  # member -> session that sent something else
        self._theta: Vector | None = None
        self._failure: OstrakonError | None = None
        self._changed = asyncio.Event()

    @property
    def head_round(self) -> int:
        """The last committed round, whose model is looked for."""
        return self._run.round

    @property
    def looked_for(self) -> str:
        """The digest of the model that is lost."""
        return self._run.key.digest

    async def theta(self) -> Vector:
        """The model, (d,) float32, once a worker has sent it.

        Raises:
            OstrakonError: everybody who is not revoked was asked and does not have it, or an old copy of the run was
                put back, or another server has taken over.
        """
        log.warning("recovering", because=str(self._lost))
        say = self._clock.now()
        while True:
            self._shut_out(self._revoked())
            if self._failure is not None:
                raise self._failure
            if self._theta is not None:
                return self._theta
            if not self._may_hold_it():
                raise self._nobody_left()
            now = self._clock.now()
            if now >= say:
                log.warning("recovering", why=self.waiting())
                say = now + SAY_AGAIN_SECONDS
            await self._clock.wait(self._changed, min(say, now + LOOK_SECONDS))

    def fail(self, error: OstrakonError) -> None:
        """End the search with this error."""
        self._failure = self._failure or error
        self._notify()

    def waiting(self) -> str:
        """What is looked for, at whom in vain, who is still to answer, and what to do, in a sentence."""
        if self._theta is not None:
            return f"the committed model of round {self.head_round} came back; it is being written to the disk"
        left = self._may_hold_it()
        asked = [member for member in left if member in self._roster.sessions]
        absent = [member for member in left if member not in asked]
        in_vain = [member for member in self._members() if member not in left]
        parts = [f"the committed model of round {self.head_round} ({self.looked_for[:12]}) is missing or damaged"]
        if absent:
            parts.append(
                f"waiting for a worker that holds it: {', '.join(absent)} did not come yet: start them where they are "
                "not running, revoke those that are gone for good"
            )
        if asked:
            parts.append(f"{', '.join(asked)} announced it and did not send it yet: revoke those that never do")
        if in_vain:
            parts.append(f"asked in vain: {', '.join(in_vain)}")
        if self._spoilt:
            parts.append(f"sent something else: {', '.join(sorted(self._spoilt))}")
        return "; ".join([*parts, "with a backup: end this server, put the file back, start again"])

    def _members(self) -> list[str]:
        """Whoever counts: the roster, without the revoked."""
        shut_out = self._roster.shut_out()
        return [member for member in self.settings.roster if member not in shut_out]

    def _may_hold_it(self) -> list[str]:
        """Members that have not said no."""
        return [member for member in self._members() if member not in self._in_vain]

    def _nobody_left(self) -> OstrakonError:
        members = ", ".join(self._members()) or "none is left"
        return OstrakonError(
            f"{self._lost}. All workers that are not revoked ({members}) were asked for the committed model of round "
            f"{self.head_round}, and they do not hold it"
        )

    def _shut_out(self, revoked: frozenset[Identity]) -> None:
        """End the part that these have in the run; what they said does not count any more."""
        news = revoked - self._roster.revoked
        if news:
            self._roster.revoke(news)
            for member in self._roster.shut_out():
                self.uploads.close(member)
            log.warning("revoked", who=", ".join(sorted(identity.urn for identity in news)))

    def join(self, caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse:
        """Ask a worker for the model, if it holds it; any other is to come again."""
        settings = self.settings
        check_protocol(request.stamp, self._run.genesis.run, run_may_be_empty=True)
        if caller.role == "observer":
            self._come_again()
        member = self._roster.member(caller)
        check_session_is_named(request)
        check_built_for(request, self._run.genesis)
        self._roster.join(member, request.session, known_head(request))
        failure = old_copy(settings, self._roster, self.head_round, self._run.head_hash)
        if failure is not None:
            self.fail(failure)
        wanted = self.looked_for
        if wanted in request.holds and self._spoilt.get(member) != request.session:
            self._in_vain.discard(member)
        else:
            self._in_vain.add(member)
        self._notify()
        if member in self._in_vain or self._theta is not None:
            self._come_again()
        return welcome(
            settings,
            self._stamp(),
            position=self._roster.position(member),
            parameters=self._d,
            two_phase=self._two_phase,
            wanted=wanted,
        )

    async def restore(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse:
        """Receive the model."""
        member = self._roster.member(caller)
        first = await self.uploads.header(parts)
        check_protocol(first.stamp, self._run.genesis.run)
        check_term(first.stamp, self.term)
        self._roster.check_session(member, first.header.session)
        if self._theta is not None:
            self._come_again()
        if first.header.lanes > 1:
            raise Refused(Reason.NO_LANE, "a model comes back over one stream")
        try:
            if first.header.digest != self.looked_for:
                raise Refused(
                    Reason.WRONG_DIGEST,
                    f"expected the model {self.looked_for}, the header announces {first.header.digest[:64]}",
                )
            row = self._rows.setdefault(member, np.empty(self._d, dtype=np.float32))
            await self.uploads.receive(member, parts, row, first)
        except Refused as refusal:
            # A newer session is asked anew; and who is slow has not said no: it may send it again.
            newest = self._roster.sessions.get(member) == first.header.session
            if refusal.code is Code.INVALID_ARGUMENT and newest:
                if member not in self._spoilt:
                    log.warning("no use as the committed model", member=member, why=str(refusal))
                self._spoilt[member] = first.header.session
                self._in_vain.add(member)
                self._notify()
            raise
        if self._theta is None:
            self._theta = row
            self.uploads.close_all()  # nobody writes into this row any more
            log.info("received the committed model", member=member, round=self.head_round)
        self._notify()
        return pb.RestoreResponse(stamp=self._stamp())

    async def broadcast(self, caller: Identity, request: pb.BroadcastRequest, send: Send) -> None:
        """Refuse to send what is looked for."""
        if caller.role == "worker":
            self._join_first(caller)
        self._come_again()

    async def submit(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        """Refuse a momentum: no round is open."""
        self._join_first(caller)

    async def propose(self, caller: Identity, request: pb.ProposeRequest, send: Send) -> None:
        """Refuse to send candidates: no round is open."""
        self._join_first(caller)

    async def vote(self, caller: Identity, request: pb.VoteRequest) -> pb.VoteResponse:
        """Refuse a vote: no round is open."""
        self._join_first(caller)

    def status(self, caller: Identity, request: pb.StatusRequest) -> pb.StatusResponse:
        """Where the run stands, and what it waits for."""
        check_reader(caller, self._roster, "the status")
        check_protocol(request.stamp, self._run.genesis.run, run_may_be_empty=True)
        response = standing(
            self.settings,
            self._stamp(),
            history=self._run.history,
            last=self._run.head,
            roster=self._roster,
            refusals=self._refusals,
            traffic=self.traffic,
            waiting=self.waiting(),
        )
        response.awaited.extend([] if self._theta is not None else self._may_hold_it())
        return response

    def refuse(self, caller: Identity | None, reason: Reason) -> None:
        """Count a refused call, for the status: an entry holds those of its round, and none is open.

        Who is to come again has done nothing wrong.
        """
        if reason is not Reason.RECOVERING:
            self._refusals.count(self._roster.name(caller), reason)

    def _stamp(self) -> pb.Stamp:
        return pb.Stamp(protocol=PROTOCOL, run=self._run.genesis.run, term=self.term, round=self.head_round + 1)

    def _join_first(self, caller: Identity) -> NoReturn:
        member = self._roster.member(caller)
        raise Refused(Reason.NOT_JOINED, f"{member} has not joined this server: join first")

    def _come_again(self) -> NoReturn:
        raise Refused(Reason.RECOVERING, self.waiting())

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
