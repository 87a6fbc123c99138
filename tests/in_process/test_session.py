"""A worker's process life when its server does not answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.backoff import FIRST, LONGEST
from ostrakon.worker.session import Session
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.passing import Passing
from ostrakon.worker.transport import CallFailed
from tests.harness.house import House, Port, Pull
from tests.harness.scenario import LIMIT, Impatient, inline, play


class Unanswered:
    """A way to a house that nobody opens for the first `refusals` calls."""

    def __init__(self, house: House, name: str, refusals: int) -> None:
        self._way = house.transport(name)
        self._refusals = refusals

    def __getattr__(self, call: str) -> object:
        if self._refusals > 0:
            self._refusals -= 1
            raise CallFailed("UNAVAILABLE", None, "nobody answers")
        return getattr(self._way, call)


@pytest.mark.parametrize("attempts", [1, 5, 1100])
def test_a_worker_outlasts_a_server_that_is_away_however_long(tmp_path: Path, attempts: int) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=1)
        clock = Impatient()
        patient = Session("pull", 3, Pull(1.0), Unanswered(house, "a", attempts), clock, offload=inline)  # type: ignore[arg-type]
        others = [house.session(name, Pull(target)) for name, target in (("b", 1.1), ("c", 0.9))]
        assert await house.run(patient, *others) == ["completed"] * 4
        first, longest = FIRST, LONGEST
        assert first / 2 <= clock.now() / attempts <= longest  # it has not asked without a pause
        await house.stop()

    play(scenario())


def test_a_worker_gives_up_when_no_waiting_will_help(tmp_path: Path) -> None:
    async def scenario() -> None:
        way = House(tmp_path).transport("a")
        way.port = Port()
        session = Session(
            "pull", 3, Pull(1.0), way, Impatient(), diagnose=lambda: "the certificate has expired", offload=inline
        )
        with pytest.raises(OstrakonError, match="the certificate has expired"):
            await asyncio.wait_for(session.take_part(), LIMIT)

    play(scenario())


class FromThePast(Passing):
    """Every call is first answered by a server of a smaller term or of another run: all is over, it says."""

    def __init__(self, house: House, name: str, past: pb.Stamp) -> None:
        super().__init__(house.transport(name))
        self.past = past
        self.lied: list[tuple[str, int]] = []
        self.asked_again: list[tuple[str, int]] = []

    def lies(self, call: str, stamp: pb.Stamp) -> pb.Stamp | None:
        """The stamp of a lie, once for each call and round."""
        if (call, stamp.round) in self.lied:
            self.asked_again.append((call, stamp.round))
            return None
        self.lied.append((call, stamp.round))
        lie = pb.Stamp()
        lie.CopyFrom(stamp)
        lie.MergeFrom(self.past)
        return lie

    async def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        if lie := self.lies("broadcast", request.stamp):
            yield pb.ModelPart(stamp=lie, header=pb.ModelHeader(digests=["x"], phase=pb.RUN_PHASE_COMPLETED))
        else:
            async for part in self.transport.broadcast(request):
                yield part

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        if lie := self.lies("submit", submission.stamp):
            return pb.SubmitMomentumResponse(stamp=lie)
        return await self.transport.submit(submission)

    async def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        if lie := self.lies("propose", request.stamp):
            yield pb.ModelPart(stamp=lie, header=pb.ModelHeader(decided=pb.Commit(digest="x")))
        else:
            async for part in self.transport.propose(request):
                yield part

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        if lie := self.lies("vote", request.stamp):
            return pb.VoteResponse(stamp=lie, commit=pb.Commit(digest="x"))
        return await self.transport.vote(request)


@pytest.mark.parametrize("past", [pb.Stamp(term=1), pb.Stamp(run="another")])
def test_a_worker_believes_only_the_server_that_it_has_joined(tmp_path: Path, past: pb.Stamp) -> None:
    async def scenario() -> None:
        House(tmp_path).ledger.close()
        house = House(tmp_path)  # of term 2
        way = FromThePast(house, "a", past)
        session = Session("pull", 3, Pull(1.0), way, Impatient(), offload=inline)
        others = [house.session(name, Pull(target)) for name, target in (("b", 1.3), ("c", 0.6))]
        assert await house.run(session, *others) == ["completed"] * 4
        calls = ("submit", "propose", "vote")  # the answer to a vote says that the next round has begun
        expected = {(call, round) for call in calls for round in (1, 2, 3)} | {("broadcast", 0), ("broadcast", 3)}
        assert {*way.lied} == {*way.asked_again} == expected
        await house.stop()

    play(scenario())
