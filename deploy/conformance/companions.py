"""The other members of the run: they call the server in its own process, and do what a scene wants."""

import asyncio
from collections.abc import Mapping

import numpy as np

from ostrakon.common.choice import Choice
from ostrakon.common.digest import DIGEST_SCHEME
from ostrakon.common.identity import Identity
from ostrakon.common.wire import PROTOCOL, Vector
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.round import Phase
from ostrakon.server.rpc.calls import Calls
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.submission import Submission

NAMES = ("a", "b", "c", "d")
SMALL = 1e-3  # their momenta leave the model nearly where it is

_FAR = {"d": 10.0}  # an outlier among the small: Inner and Outer are never alike


class Companions:
    """All of them, at one server; it is another object for each of its lives."""

    def __init__(self, state: Coordinator, calls: Calls) -> None:
        """They join."""
        self._state, self._calls = state, calls
        for name in NAMES:
            self.join(Identity("worker", name), session=name)

    def join(self, member: Identity, session: str) -> None:
        """One member joins, or another process in its name."""
        genesis = self._state.chain.genesis
        request = pb.JoinRequest(
            stamp=self._stamp(),
            session=session,
            task=genesis.settings["task"],
            parameters=genesis.parameters,
            digest_scheme=DIGEST_SCHEME,
        )
        self._calls.join(member, request)

    def momenta(self) -> dict[str, Vector]:
        """What they send in a round unless a scene wants otherwise, (d,) each."""
        d = self._state.chain.genesis.parameters
        rng = np.random.default_rng(self._state.round.number)
        return {
            name: (SMALL * _FAR.get(name, 1.0) * rng.standard_normal(d, dtype=np.float32)).astype(np.float32)
            for name in NAMES
        }

    async def submit(self, momenta: Mapping[str, Vector | None] | None = None) -> None:
        """One momentum each, (d,); None for a gradient that is not finite."""
        for name, vector in (self.momenta() if momenta is None else momenta).items():
            base, wire = self._state.round.base, self._state.settings.wire
            submission = Submission(self._stamp(), name, base, self._d, vector, wire=wire)
            await self._calls.submit(Identity("worker", name), submission.parts())

    async def closed(self) -> None:
        """The round takes no momenta any more: its candidates are there, or it is committed."""
        state, number = self._state, self._state.round.number
        await state.until(lambda: state.head_round >= number or state.round.phase is Phase.VOTING)

    async def vote(self, choice: Choice) -> None:
        """All alike, once there are candidates; returns when the round is committed, be it without a vote."""
        await self.closed()
        if self._state.round.phase is not Phase.VOTING:
            return
        stamp = self._stamp()
        chosen = pb.CHOICE_INNER if choice == "inner" else pb.CHOICE_OUTER
        await asyncio.gather(
            *(
                self._calls.vote(Identity("worker", name), pb.VoteRequest(stamp=stamp, session=name, choice=chosen))
                for name in NAMES
            )
        )

    @property
    def _d(self) -> int:
        return self._state.chain.genesis.parameters

    def _stamp(self) -> pb.Stamp:
        run, round = self._state.chain.genesis.run, self._state.round.number
        return pb.Stamp(protocol=PROTOCOL, run=run, term=self._state.term, round=round)
