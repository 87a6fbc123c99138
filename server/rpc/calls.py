"""The workers' calls, judged and answered: who may ask what, and when the answer is there.

Protobuf messages in and out, no gRPC. Decisions about a round are `round.py`'s; this is where calls wait for them.
"""

from collections.abc import AsyncIterator, Iterator

import structlog

from ostrakon.common.choice import Ballot, Choice
from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.server.core import round as rounds
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.streams import Displaced
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
from ostrakon.server.rpc.messages import Messages, commit_message, run_phase, step_message
from ostrakon.server.rpc.quota import Quota
from ostrakon.server.rpc.status import check_reader, standing
from ostrakon.v1 import parameter_server_pb2 as pb

log = structlog.get_logger()


class Calls:
    """Answers for one coordinator. Every method raises `Refused` for a call that must not be answered."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._state = coordinator
        self._messages = Messages(coordinator)
        self.settings, self.traffic = coordinator.settings, coordinator.traffic
        self.quota = Quota(coordinator.chain.theta.size)
        self._told: set[Identity] = set()  # who has heard that the run is over
        self._observers: set[Identity] = set()

    @property
    def term(self) -> int:
        """This server's."""
        return self._state.term

    @property
    def head_round(self) -> int:
        """The last committed round, 0 before the first."""
        return self._state.head_round

    def join(self, caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse:
        """Let a worker in, if it is on the roster and was built for this run, task, model and protocol.

        An observer is told whether it was built for them.
        """
        state, settings = self._state, self._state.settings
        check_protocol(request.stamp, state.chain.genesis.run, run_may_be_empty=True)
        if caller.role == "observer":
            state.roster.check_not_revoked(caller)
            check_built_for(request, state.chain.genesis)
            return self._welcome(0)
        member = state.roster.member(caller)
        check_session_is_named(request)
        check_built_for(request, state.chain.genesis)
        if state.roster.join(member, request.session, known_head(request)):
            # Where the older session lives, this is no process that was started again. One line a round is enough.
            if self.quota.of(caller) > 1 and state.refusals.count(member, Reason.OLDER_SESSION_CLOSED) == 1:
                log.warning("one certificate, two processes: the older session is closed", member=member)
            state.uploads.close(member)
            state.readers.close(caller)
        state.tell_unreadable(member, request.data_not_readable)
        failure = old_copy(settings, state.roster, state.head_round, state.chain.head_hash)
        if failure is not None:
            state.fail(failure)
        return self._welcome(state.roster.position(member))

    def _welcome(self, position: int) -> pb.JoinResponse:
        state = self._state
        return welcome(
            state.settings,
            self._messages.stamp(),
            position=position,
            parameters=state.chain.theta.size,
            two_phase=state.two_phase,
        )

    async def restore(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse:
        """Take a model back: not this server, which has it."""
        self._state.roster.member(caller)
        raise Refused(Reason.NOT_JOINED, "this server has its model: join again")

    async def broadcast(self, caller: Identity, request: pb.BroadcastRequest, send: Send) -> None:
        """Send the committed model, once the round after it collects."""
        state = self._state
        self._check_stamp(request.stamp)
        worker = caller.role == "worker"
        if worker:
            state.roster.check_session(state.roster.member(caller), request.session)
        else:
            check_reader(caller, state.roster, "models")
            self._observers.add(caller)
        if request.average and worker:
            raise Refused(Reason.WRONG_ROLE, "only observers and operators may read the average")
        await state.until(
            lambda: (
                state.finished is not None
                or (state.round.number > request.after and (not worker or self._wanted(caller.id)))
            )
        )
        state.roster.check_not_revoked(caller)  # it may have been while it waited,
        if worker:
            state.roster.check_session(caller.id, request.session)  # or another process has joined in its name
        finished = state.finished is not None
        parts = (
            self._messages.average()
            if request.average
            else self._messages.models({state.chain.digest: state.chain.theta}, request.holds)
        )
        await self._send(caller, parts, send)
        if finished and (worker or request.average):  # an observer asks for the average last
            self._told.add(caller)
            state.notify()

    def _wanted(self, member: str) -> bool:
        """Whether a member that has come now can do something in this round.

        Too late for a momentum, it could still vote; but it is better in time for the next round, unless this one
        lacks the votes: those who submitted may be gone for good.
        """
        state = self._state
        if state.round.phase is rounds.Phase.VOTING:
            return member not in state.round.votes and bool(state.waiting())
        return state.round.phase is rounds.Phase.COLLECTING

    async def submit(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        """Receive one momentum vector into the caller's row."""
        state = self._state
        member = state.roster.member(caller)
        first = await state.uploads.header(parts)
        header = first.header
        self._check_stamp(first.stamp)
        state.roster.check_session(member, header.session)
        if first.stamp.round < state.round.number or state.round.phase is not rounds.Phase.COLLECTING:
            state.roster.come_too_late(member, state.head_round)
        self._check_round(first.stamp)
        if header.parameters != state.chain.theta.size:
            raise Refused(
                Reason.WRONG_LENGTH,
                f"expected a vector of {state.chain.theta.size} values, the header announces {header.parameters}",
            )
        needed = rounds.admit(state.round, member, header.session, header.base, header.digest)
        if needed and header.not_finite:
            state.step(rounds.GradientNotFinite(member))
        elif needed:
            position = state.roster.position(member)
            row = state.aggregator.row(position)
            try:
                whole = await state.uploads.receive(member, parts, row, first)
            except Refused as refusal:
                if refusal.reason is Reason.LATE_SUBMISSION and self._still_needed(member, first.stamp.round):
                    raise Refused(
                        Reason.NEWER_UPLOAD, "another upload of this worker took over the row: send it again"
                    ) from None
                raise
            if whole:
                state.aggregator.arrived(position)
                state.step(rounds.Uploaded(member, header.session, header.digest, header.loss))
            if whole and member not in state.round.submissions:
                raise Refused(Reason.LATE_SUBMISSION, "the round closed with the last byte")
        return pb.SubmitMomentumResponse(stamp=self._messages.stamp(), uploaded=needed and not header.not_finite)

    def _still_needed(self, member: str, round: int) -> bool:
        """Whether this round takes momenta and has none of the member's yet."""
        now = self._state.round
        return now.number == round and now.phase is rounds.Phase.COLLECTING and member not in now.submissions

    async def propose(self, caller: Identity, request: pb.ProposeRequest, send: Send) -> None:
        """Send both candidates of the round, once they are formed."""
        state = self._state
        number = self._check_member_call(caller, request.stamp, request.session)
        if number > state.head_round:
            self._check_round(request.stamp)
        await state.until(
            lambda: state.finished is not None or state.head_round >= number or state.round.phase is rounds.Phase.VOTING
        )
        if state.chain.head is not None and state.head_round == number:
            await send(self._messages.decided(state.chain.head))
        elif state.round.number == number and state.round.phase is rounds.Phase.VOTING:
            vectors = {candidate.digest: candidate.sent for candidate in state.proposal.candidates.values()}
            await self._send(caller, self._messages.models(vectors, request.holds), send)
        else:
            raise Refused(Reason.WRONG_ROUND, f"round {number} has no candidates any more")

    async def vote(self, caller: Identity, request: pb.VoteRequest) -> pb.VoteResponse:
        """Count a vote; answered when the round is committed. A vote for a committed round is told its outcome."""
        state = self._state
        number = self._check_member_call(caller, request.stamp, request.session)
        choice = _choice(request.choice)
        if number <= state.head_round:
            state.traffic.late_votes += 1
        else:
            self._check_round(request.stamp)
            if rounds.check_vote(state.round, caller.id, choice):
                ballot = Ballot(choice, request.inner_loss, request.outer_loss)
                state.step(rounds.Voted(caller.id, ballot))
            await state.until(lambda: state.head_round >= number or state.finished is not None)
        entry = state.chain.head if number == state.head_round else await state.offload(state.ledger.entry, number)
        if entry is None:
            raise Refused(Reason.WRONG_ROUND, f"round {number} was never committed")
        return pb.VoteResponse(
            stamp=self._messages.stamp(),
            commit=commit_message(entry),
            phase=run_phase(state),
            step=step_message(state),
        )

    def status(self, caller: Identity, request: pb.StatusRequest) -> pb.StatusResponse:
        """Where the run stands."""
        check_reader(caller, self._state.roster, "the status")
        check_protocol(request.stamp, self._state.chain.genesis.run, run_may_be_empty=True)
        state = self._state
        response = standing(
            state.settings,
            self._messages.stamp(),
            history=state.chain.history,
            last=state.chain.head,
            roster=state.roster,
            refusals=state.refusals,
            traffic=state.traffic,
            waiting=state.waiting(),
        )
        of_the_round = pb.StatusResponse(
            phase=run_phase(state),
            awaited=state.round.awaited(),
            absent=state.roster.absent(),
            reported_loss=state.reported_loss,
            seconds=state.elapsed(),
            seconds_to_first_commit=state.seconds_to_first_commit or 0.0,
        )
        response.MergeFrom(of_the_round)
        return response

    def refuse(self, caller: Identity | None, reason: Reason) -> None:
        """Count a refused call under its reason; callers that are not members are counted together."""
        if self._state.finished is not None:
            return  # whoever is late now has done nothing wrong
        member = self._state.roster.name(caller)
        if reason is Reason.MODEL_REPLACED and not member:
            return  # an observer was slower than the run
        self._state.refusals.count(member, reason)

    async def farewell(self) -> None:
        """Wait until every live worker and every observer has heard the end, or `linger` has passed.

        Live are those that are waited for in rounds, and those that have a call open.
        """
        state = self._state

        def all_told() -> bool:
            if state.seconds_to_first_commit is None:
                return False  # this server found the run at its end: who is still to be told is not known
            if len(self._observers) < state.settings.observers:
                return False
            away = {member for member in state.roster.absent() if not self.quota.of(Identity("worker", member))}
            live = set(state.roster.sessions) - away
            observers = self._observers - state.roster.revoked
            return live <= {who.id for who in self._told if who.role == "worker"} and observers <= self._told

        await state.until(all_told, state.clock.now() + state.settings.linger)

    async def _send(self, caller: Identity, parts: Iterator[bytes], send: Send) -> None:
        """Be the caller's one stream of models, until it is sent or no longer worth sending."""
        try:
            with self._state.readers.claim(caller):
                for part in parts:
                    await send(part)
        except Displaced:
            raise Refused(Reason.MODEL_REPLACED, "the next model was committed, or asked for: ask again") from None

    def _check_member_call(self, caller: Identity, stamp: pb.Stamp, session: str) -> int:
        """Admit a roster member's call of its newest session; returns the round it speaks of."""
        member = self._state.roster.member(caller)
        self._check_stamp(stamp)
        self._state.roster.check_session(member, session)
        return stamp.round

    def _check_stamp(self, stamp: pb.Stamp) -> None:
        check_protocol(stamp, self._state.chain.genesis.run)
        check_term(stamp, self._state.term)

    def _check_round(self, stamp: pb.Stamp) -> None:
        state = self._state
        if state.finished is not None:
            raise Refused(Reason.WRONG_ROUND, f"the run is over ({state.finished}): ask for the last model")
        if stamp.round != state.round.number or stamp.round <= state.head_round:
            raise Refused(
                Reason.WRONG_ROUND,
                f"round {state.head_round + 1} is the one being decided, not round {stamp.round}",
            )


def _choice(choice: int) -> Choice:
    if choice == pb.CHOICE_INNER:
        return "inner"
    if choice == pb.CHOICE_OUTER:
        return "outer"
    raise Refused(Reason.NO_CHOICE, f"expected CHOICE_INNER or CHOICE_OUTER, got {choice}")
