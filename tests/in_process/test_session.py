"""A worker's process life when its server does not answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostrakon.common.clock import ManualClock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.backoff import FIRST, LONGEST
from ostrakon.worker.session import Session
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.passing import Passing
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import CallFailed
from tests.harness.house import House, Member, Port, Pull, vector
from tests.harness.scenario import LIMIT, Impatient, inline, play, settle


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


def test_a_worker_that_hears_nothing_for_as_long_as_it_was_told_ends_and_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        way = House(tmp_path).transport("a")
        way.port = Port()
        clock = Impatient()
        session = Session("pull", 3, Pull(1.0), way, clock, server_timeout=3600, offload=inline)
        with pytest.raises(OstrakonError, match=r"no answer from the server for 3600 s \(setting server_timeout\)"):
            await asyncio.wait_for(session.take_part(), LIMIT)
        assert 3600 <= clock.now() <= 3600 + 2 * LONGEST

    play(scenario())


class Deaf(Passing):
    """Every call waits at the server until its deadline, in vain, so many times."""

    left = 2000

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        self.left -= 1
        if self.left > 0:
            raise CallFailed("DEADLINE_EXCEEDED", None, "Deadline Exceeded")
        return await super().join(request)


def test_a_server_that_keeps_a_worker_waiting_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=1)
        patient = Session(
            "pull", 3, Pull(1.0), Deaf(house.transport("a")), Impatient(), server_timeout=10, offload=inline
        )
        others = [house.session(name, Pull(target)) for name, target in (("b", 1.1), ("c", 0.9))]
        assert await house.run(patient, *others) == ["completed"] * 4
        await house.stop()

    play(scenario())


def test_a_worker_that_was_away_at_the_end_hears_of_it_from_a_server_that_is_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=2, grace_floor=0.01, absent_after=1, join_timeout=0.01)
        others = [house.session(name, Pull(target)) for name, target in (("b", 1.1), ("c", 0.9))]
        assert await house.run(*others) == ["completed"] * 3
        await house.stop()
        again = House(tmp_path, rounds=2, port=house.port)
        away = again.session("a", Pull(1.0))
        assert await again.run(away) == ["completed"] * 2
        await again.stop()

    play(scenario())


def test_a_server_waits_at_the_end_for_a_worker_that_is_not_waited_for_in_rounds_but_has_a_call_open(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, rounds=1, clock=clock, absent_after=1)
        running = house.start()
        a, b, c = await house.members()
        slow, has_read = Identity("worker", "c"), asyncio.Event()

        async def wait(part: bytes) -> None:
            await has_read.wait()

        async def read() -> None:
            request = pb.BroadcastRequest(stamp=c.stamp(), after=1, session=c.session)
            with house.calls.quota.admit(slow):
                await house.calls.broadcast(slow, request, wait)

        reading = asyncio.create_task(read())
        for member in (a, b):
            await member.submit(vector(1.0))
        await settle()
        clock.advance(100.0)
        assert await running == "completed"
        assert house.status().absent == ["c"]
        farewell = asyncio.create_task(house.calls.farewell())
        for member in (a, b):
            await member.receive(after=1)
        await settle()
        assert not farewell.done()
        has_read.set()
        await asyncio.gather(reading, farewell)
        await house.stop()

    play(scenario())


def test_the_end_is_heard_with_the_last_vote_however_long_the_next_round_is_not_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=1)
        running = house.start()
        others = [house.session(name, Pull(target)) for name, target in (("b", 1.3), ("c", 0.6))]
        taking_part = [asyncio.create_task(other.take_part()) for other in others]
        rounds = house.session("a", Pull(1.0)).rounds
        begun = await rounds.next()
        assert begun is not None
        await rounds.submit(Pull(1.0).momentum(1, begun.base, begun.theta))
        candidates = await rounds.candidates()
        assert candidates is not None
        await rounds.vote(Pull(1.0).judge(1, *candidates))
        assert await running == "completed"
        await asyncio.wait_for(house.calls.farewell(), LIMIT)
        await asyncio.gather(*taking_part)
        await house.stop()  # from here on nobody answers
        assert await rounds.next() is None and rounds.outcome == "completed"

    play(scenario())


def test_a_run_that_ends_in_the_middle_of_a_round_has_ended_when_the_next_one_is_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        running = house.start()
        rounds = house.session("a", Pull(1.0)).rounds
        begun = await rounds.next()
        assert begun is not None
        unknown = Momentum(vector(0.0), 0.0, finite=False)
        others = [await Member(house, name).enter() for name in "bc"]
        await rounds.submit(unknown)
        await others[0].submit(vector(1.0), header=lambda part: setattr(part.header, "not_finite", True))
        assert await running == "diverged"
        assert await rounds.candidates() is None
        await house.stop()  # from here on nobody answers
        assert await asyncio.wait_for(rounds.next(), LIMIT) is None and rounds.outcome == "diverged"

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
            yield pb.ModelPart(
                stamp=lie, header=pb.ModelHeader(digests=["x"], parameters=3, phase=pb.RUN_PHASE_COMPLETED)
            )
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
