"""What a worker says to its server, and what it believes of the answers."""

import uuid
from functools import partial

import structlog

from ostrakon.common.algorithm import Step
from ostrakon.common.bf16 import Wire, candidate
from ostrakon.common.choice import Ballot, Outcome
from ostrakon.common.wire import PROTOCOL, Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.part import Decided, Joined, Part, Received, Restored, Submitted
from ostrakon.worker.submission import Submission
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import CallFailed, Models, Transport, receive_models

log = structlog.get_logger()

OUTCOMES: dict[int, Outcome] = {pb.RUN_PHASE_COMPLETED: "completed", pb.RUN_PHASE_DIVERGED: "diverged"}


class Exchange:
    """The calls of one process life. Each returns what has happened, or raises `CallFailed`.

    Attributes:
        place: the server's answer to the last Join.
        wire: how momenta and aggregates travel.
        taken: how far the round's candidates go.
        head: the last ledger entry that this worker was told of.
        held: models by digest: the committed one and, between Propose and the commit, both candidates.
        theta: the committed model that came last, (d,), also once it is not held any more; None before one came.
        candidates: Inner's and Outer's model, (d,) each, until there is a vote.
    """

    def __init__(self, built_for: pb.JoinRequest, transport: Transport, part: Part) -> None:
        """`built_for`: see `introduction`; `part` says in which term and round a call is made."""
        self.place = pb.JoinResponse()
        self.wire: Wire = "float32"
        self.taken = Step(0.0)
        self.head = pb.Head()
        self.held: dict[str, Vector] = {}
        self.theta: Vector | None = None
        self.candidates: tuple[Vector, Vector] | None = None
        self._built_for = built_for
        self._transport = transport
        self._part = part
        self._session = uuid.uuid4().hex
        self._run = ""

    async def introduce(self, excuse: str = "") -> pb.JoinResponse:
        """Join; with an `excuse`, so that nobody waits for this worker."""
        request = pb.JoinRequest(
            stamp=self._stamp(),
            session=self._session,
            head=self.head,
            holds=list(self.held),
            data_not_readable=excuse,
        )
        request.MergeFrom(self._built_for)
        response = await self._transport.join(request)
        self._run = response.stamp.run
        self.wire = "bf16" if response.wire == pb.WIRE_BF16 else "float32"
        return response

    def joined(self, response: pb.JoinResponse) -> Joined:
        """This worker has taken the place that the server gave it."""
        log.info("joined", run=self._run, term=response.stamp.term, position=response.position, rule=response.rule)
        self.place = response
        return Joined(response.stamp.term, response.two_phase, response.wanted)

    async def restore(self, wanted: str) -> Restored:
        """Send the committed model back."""
        model = self.held[wanted]
        await self._transport.restore(Submission(self._stamp(), self._session, wanted, len(model), model))
        log.info("restored", digest=wanted)
        return Restored()

    async def receive(self, after: int) -> Received:
        """Wait for the model of a round larger than `after`, or the end."""
        request = pb.BroadcastRequest(stamp=self._stamp(), after=after, holds=list(self.held), session=self._session)
        models = await receive_models(self._transport.broadcast(request), self._built_for.parameters)
        self._check(models.stamp)
        self.head = models.header.head
        self.taken = _step(models.header.step)
        self._keep(models, list(models.header.digests))
        base = models.header.digests[0]
        self.theta = self.held[base]
        return Received(models.stamp.round, base, OUTCOMES.get(models.header.phase))

    async def submit(self, base: str, momentum: Momentum) -> Submitted:
        """Send the momentum at the model `base`."""
        vector = momentum.vector if momentum.finite else None
        d = self._built_for.parameters
        submission = Submission(self._stamp(), self._session, base, d, vector, momentum.loss, self.wire)
        response = await self._transport.submit(submission)
        self._check(response.stamp)
        return Submitted()

    async def inspect(self, round: int, base: str) -> Decided | None:
        """Wait for `candidates`; returns what was decided where there are none any more."""
        request = pb.ProposeRequest(stamp=self._stamp(), holds=list(self.held), session=self._session)
        form = None if self.wire == "float32" else partial(candidate, self.held[base], taken=self.taken)
        models = await receive_models(self._transport.propose(request), self._built_for.parameters, count=2, form=form)
        self._check(models.stamp)
        if models.header.HasField("decided"):
            self._adopt(models.header.decided)
            return Decided(round)
        inner, outer = models.header.digests
        self._keep(models, [*self.held, inner, outer])
        self.candidates = self.held[inner], self.held[outer]
        return None

    async def vote(self, round: int, ballot: Ballot) -> Decided:
        """Send the ballot, and wait for the commit."""
        response = await self._transport.vote(
            pb.VoteRequest(
                stamp=self._stamp(),
                session=self._session,
                choice=pb.CHOICE_INNER if ballot.choice == "inner" else pb.CHOICE_OUTER,
                inner_loss=ballot.inner_loss,
                outer_loss=ballot.outer_loss,
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
        self.theta = self.held.get(commit.digest, self.theta)

    def _keep(self, models: Models, digests: list[str]) -> None:
        known = self.held | models.vectors
        if not digests or not known.keys() >= set(digests):
            raise CallFailed("INTERNAL", None, "the server names models that are neither sent nor held")
        self.held = {name: known[name] for name in digests}

    def _stamp(self) -> pb.Stamp:
        return pb.Stamp(protocol=PROTOCOL, run=self._run, term=self._part.term, round=self._part.round)


def _step(message: pb.Step) -> Step:
    return Step(message.gamma, message.keep)
