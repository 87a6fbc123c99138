"""How a Byzantine worker of a test bed lies: between an honest session and the wire, and nowhere else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from ostrakon.common.choice import Choice
from ostrakon.common.schedule import Schedule
from ostrakon.common.wire import Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.attacks import VOTES, Attack
from ostrakon.worker.attacks.mounting import alone
from ostrakon.worker.sampling import BYZANTINE_VOTE, generator
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.passing import Passing, sat_out
from ostrakon.worker.testbed.settings import ByzantineVote
from ostrakon.worker.transport import Transport


class Colluders(Protocol):
    """Whom a corrupted worker asks what to do, since they know what it does not."""

    async def instead(self, attack: Attack, true: Submission, joined: pb.JoinResponse) -> Vector | None:
        """What to send instead of the true vector; None if they do not answer: then nothing is sent."""
        ...

    async def share(self, true: Submission) -> None:
        """Let them know the true vector of a round in which this worker acts alone."""
        ...

    async def vote(self, stamp: pb.Stamp) -> Choice | None:
        """What to vote; None for not at all."""
        ...


class Byzantine(Passing):
    """Sends what an attack says instead of the momentum, and votes as it was told.

    Args:
        transport: the way to the server.
        attacks: over the rounds; LF's lie is in the labels that `FlippingLearner` trains on.
        vote: how it votes, in every round.
        seed: of what it draws.
        colluders: for attacks that need the vectors of others and the vote `pivotal`.
        offload: `offload(function, *args)` runs blocking work off the event loop.
    """

    def __init__(
        self,
        transport: Transport,
        attacks: Schedule[Attack],
        vote: ByzantineVote,
        *,
        seed: int,
        colluders: Colluders | None = None,
        offload: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        super().__init__(transport)
        self._attacks = attacks
        self._vote = vote
        self._seed = seed
        self._colluders = colluders
        self._colludes = any(attack.knows != "alone" for attack in attacks.all())
        self._offload = offload
        self._joined = pb.JoinResponse()
        self._sent: tuple[tuple[int, str], Vector] | None = None

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        """Introduce this process, and remember its place."""
        self._joined = await self.transport.join(request)
        return self._joined

    async def submit(self, true: Submission) -> pb.SubmitMomentumResponse:
        """Send the attack's vector; the same bytes whenever it is asked again for a round and base."""
        attack = self._attacks.at(true.stamp.round)
        if self._colluders is not None and self._colludes and (attack is None or attack.knows == "alone"):
            await self._colluders.share(true)
        if attack is None or true.vector is None:
            return await self.transport.submit(true)
        key = true.stamp.round, true.base
        if self._sent is None or self._sent[0] != key:
            self._sent = key, await self._instead(attack, true, true.vector)
        return await self.transport.submit(replace(true, vector=self._sent[1]))

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        """Vote as told; the losses are reported as they are."""
        if self._vote == "honest":
            return await self.transport.vote(request)
        choice = await self._choice(request)
        if choice is None:
            raise sat_out("this worker does not vote in this round")
        lie = pb.VoteRequest()
        lie.CopyFrom(request)
        lie.choice = pb.CHOICE_INNER if choice == "inner" else pb.CHOICE_OUTER
        return await self.transport.vote(lie)

    async def _instead(self, attack: Attack, true: Submission, vector: Vector) -> Vector:
        if attack.knows == "alone":
            whose = {"seed": self._seed, "worker": self._joined.position, "round": true.stamp.round}
            sent: Vector = await self._offload(partial(alone, attack, vector, **whose))
            return sent
        instead = None if self._colluders is None else await self._colluders.instead(attack, true, self._joined)
        if instead is None:
            raise sat_out("the colluders do not answer: this worker sends nothing in this round")
        return instead

    async def _choice(self, request: pb.VoteRequest) -> Choice | None:
        if self._vote in VOTES:
            random = generator(self._seed, BYZANTINE_VOTE, self._joined.position, request.stamp.round)
            honest: Choice = "outer" if request.choice == pb.CHOICE_OUTER else "inner"
            return VOTES[self._vote](honest, random)
        return None if self._colluders is None else await self._colluders.vote(request.stamp)
