"""The server's rounds with members that come late, lie, come back, or never answer."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon.common.clock import ManualClock
from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Missing, Reason
from ostrakon.common.wire import Vector
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.round import Phase
from ostrakon.server.storage.audit import audit
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.session import Session
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import Models
from tests.harness.driven_worker import refusal
from tests.harness.house import APART, House, Member, Pull, submit_all, vector, vote_all
from tests.harness.scenario import play, reached, settle

GRACE = 1000.0  # seconds, more than any grace in these tests

FIVE: dict[str, Any] = {"roster": tuple(APART), "f": 2}


# Members that come late.


def test_a_late_member_is_refused_votes_all_the_same_and_the_round_is_marked_thin(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock, **FIVE)
        house.start()
        *others, late = await house.members()
        await submit_all(others)
        await settle()
        assert house.coordinator.round.phase is Phase.COLLECTING
        clock.advance(GRACE)
        await others[0].candidates()
        assert await refusal(late.submit(APART["e"])) == ("FAILED_PRECONDITION", Reason.LATE_SUBMISSION)
        await vote_all([late, others[0], others[1]])
        assert [vote.worker for vote in house.entry().votes] == ["a", "b", "e"]
        assert house.entry().missing == {"e": Missing.NO_SUBMISSION}
        assert house.entry().refused == {"e": {Reason.LATE_SUBMISSION: 1}}
        assert house.entry().thin
        await house.stop()

    play(scenario())


def test_a_member_that_starts_over_in_a_round_may_not_submit_again_but_votes(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=GRACE)
        house.start()
        a, b, c = await house.members()
        await submit_all([a])
        again = await Member(house, "a", session="second life").enter()
        assert await refusal(again.submit(vector(7.0))) == ("ALREADY_EXISTS", Reason.ALREADY_SUBMITTED)
        assert not (await again.submit(APART["a"])).uploaded
        await submit_all([b, c])
        await vote_all([again, b, c])
        assert {vote.worker for vote in house.entry().votes} >= {"a"} or len(house.entry().votes) == 2
        assert await refusal(a.candidates()) == ("FAILED_PRECONDITION", Reason.OLDER_SESSION)
        await house.stop()

    play(scenario())


def test_a_worker_that_starts_in_the_middle_of_a_round_takes_part_from_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock, rounds=2, **FIVE)
        house.start()
        members = [await Member(house, name).enter() for name in "abcd"]
        await submit_all(members)
        clock.advance(GRACE)
        await reached(lambda: house.coordinator.round.phase is Phase.VOTING)
        late = asyncio.create_task(house.session("e", Pull(1.0)).take_part())
        await settle()
        await vote_all(members)
        for member in members:
            await member.receive(after=1)
        await submit_all(members)
        await vote_all(members)
        assert await late == "completed"
        assert house.entry(1).missing == {"e": Missing.NO_SUBMISSION}
        assert "e" not in house.entry(2).missing

    play(scenario())


def test_a_worker_that_trains_too_long_goes_on_with_the_vote(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock, ready = ManualClock(), asyncio.Event()

        async def slow(function: Callable[..., object], *arguments: object) -> object:
            if function.__name__ == "momentum":
                await ready.wait()
            return function(*arguments)

        house = House(tmp_path, clock=clock, rounds=1, **FIVE)
        house.start()
        session = Session("pull", 3, Pull(1.0), house.transport("e"), ManualClock(), offload=slow)
        late = asyncio.create_task(session.take_part())
        members = [await Member(house, name).enter() for name in "abcd"]
        await submit_all(members)
        clock.advance(GRACE)
        await members[0].candidates()
        ready.set()
        await reached(lambda: "e" in house.coordinator.round.votes)
        await vote_all(members)
        assert await late == "completed"
        assert "e" in {vote.worker for vote in house.entry().votes}
        assert house.entry().missing["e"] == Missing.NO_SUBMISSION

    play(scenario())


def test_below_the_quorum_the_run_waits_and_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock)
        house.start()
        a, *_ = await house.members()
        await submit_all([a])
        assert house.status().waiting == ""
        for _ in range(5):
            clock.advance(GRACE)
            await settle()
        assert house.status().waiting == "round 1 has 1 of the 2 momentum vectors it needs; waiting for b, c"
        assert house.coordinator.head_round == 0
        await house.stop()

    play(scenario())


def test_a_silent_member_is_waited_for_three_times_and_again_once_it_is_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock, rounds=9)
        house.start()
        a, b, c = await house.members()

        async def submitted(number: int, *present: Member) -> bool:
            """Whether the round goes on at once when these have submitted."""
            for member in present:
                await member.receive(after=number - 1)
                await member.submit(vector(1.0))  # equal vectors: no vote
            await settle()
            return house.coordinator.head_round == number

        for number in (1, 2, 3):
            assert not await submitted(number, a, b)
            clock.advance(GRACE)
        assert await submitted(4, a, b)
        assert house.status().absent == ["c"]
        assert await submitted(5, c, a, b)
        assert house.status().absent == []
        assert not await submitted(6, a, b)
        await house.stop()

    play(scenario())


async def reading(house: House, member: Member) -> asyncio.Task[None]:
    """The member begins to read the model, and is not done with it before it is cut off."""
    started = asyncio.Event()

    async def send(part: bytes) -> None:
        started.set()
        await asyncio.Event().wait()

    request = pb.BroadcastRequest(stamp=member.stamp(), session=member.session)
    task = asyncio.create_task(house.calls.broadcast(Identity("worker", member.name), request, send))
    await started.wait()
    return task


def test_who_reads_the_model_for_longer_than_a_round_of_the_others_is_waited_for_once_more_and_then_ever_more_rarely(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock, rounds=40, absent_after=1)
        house.start()
        a, b, c = await house.members()
        waited = []
        for number in range(1, 20):
            for member in (a, b):
                await member.receive(after=number - 1)
            slow = await reading(house, c)
            for member in (a, b):
                await member.submit(vector(1.0))  # equal vectors: no vote
            await settle()
            if house.coordinator.head_round < number:
                waited.append(number)
                clock.advance(GRACE)
            with pytest.raises(Refused) as refusal:
                await slow
            assert refusal.value.reason is Reason.MODEL_REPLACED
        assert waited == [1, 3, 5, 9, 17]
        for member in (c, a, b):
            await member.receive(after=19)
            await member.submit(vector(1.0))
        await settle()
        assert house.entry(20).missing == {}
        await house.stop()

    play(scenario())


# The candidates and the vote.


def test_equal_candidates_need_no_vote_and_nobody_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        house.start()
        members = await house.members()
        for member in members:
            await member.submit(vector(1.0))
        shown: list[Models] = [await member.candidates() for member in members]
        assert all(models.header.HasField("decided") and not models.vectors for models in shown)
        assert house.entry().votes == () and house.entry().inner == house.entry().outer == house.entry().winner
        assert shown[0].header.decided.digest == house.entry().winner
        await house.stop()

    play(scenario())


class Says:
    """A learner with a fixed vector."""

    def __init__(self, momentum: Vector, *, finite: bool = True) -> None:
        self.fixed = Momentum(momentum, 1.0, finite)

    def begin(self, position: int, workers: int) -> None:
        pass

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        return self.fixed

    prepare, judge = Pull(1.0).prepare, Pull(1.0).judge


def test_a_candidate_that_is_not_finite_is_not_proposed_and_the_other_is_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=1, gamma=1000.0)
        vectors = (vector(1.0), vector(1.1), vector(1e37))
        sessions = [house.session(name, Says(said)) for name, said in zip("abc", vectors, strict=True)]
        assert await house.run(*sessions) == ["completed"] * 4
        assert (house.entry().inner is None) != (house.entry().outer is None)
        assert house.entry().winner in (house.entry().inner, house.entry().outer)
        assert house.entry().votes == ()
        assert np.isfinite(house.coordinator.chain.theta).all()

    play(scenario())
    audit(tmp_path)


def test_without_a_finite_candidate_the_run_has_diverged_and_everyone_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, gamma=1000.0)
        sessions = [house.session(name, Says(vector(1e37))) for name in "abc"]
        assert await house.run(*sessions) == ["diverged"] * 4
        assert house.ledger.head() is None

    play(scenario())


@pytest.mark.parametrize(("reporting", "outcome"), [(1, "completed"), (2, "diverged"), (3, "diverged")])
def test_the_run_has_diverged_when_more_than_f_report_a_gradient_that_is_not_finite(
    tmp_path: Path, reporting: int, outcome: str
) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        sessions = [house.session(name, Says(APART[name], finite=i >= reporting)) for i, name in enumerate("abc")]
        assert await house.run(*sessions) == [outcome] * 4
        if reporting == 1:
            assert house.entry().missing == {"a": Missing.GRADIENT_NOT_FINITE}

    play(scenario())


def test_a_vote_counts_once_its_repetition_is_answered_and_another_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=GRACE)
        house.start()
        a, b, c = members = await house.members()
        await submit_all(members)
        for member in members:
            await member.candidates()
        first = asyncio.create_task(a.vote(pb.CHOICE_OUTER))
        await reached(lambda: house.coordinator.round.votes)
        repeated = asyncio.create_task(a.vote(pb.CHOICE_OUTER))
        assert await refusal(a.vote(pb.CHOICE_INNER)) == ("ALREADY_EXISTS", Reason.SECOND_VOTE)
        answers = await asyncio.gather(first, repeated, b.vote(pb.CHOICE_INNER), c.vote(pb.CHOICE_INNER))
        assert {answer.commit.head.hash for answer in answers} == {house.entry().hash}
        votes = [(vote.worker, vote.choice) for vote in house.entry().votes]
        assert votes == [("a", "outer"), ("b", "inner"), ("c", "inner")]
        await house.stop()

    play(scenario())


def test_a_vote_without_a_look_at_the_candidates_counts_once_they_are_formed(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, **FIVE)
        house.start()
        members = await house.members()
        assert await refusal(members[0].vote()) == ("FAILED_PRECONDITION", Reason.EARLY_VOTE)
        await submit_all(members)
        await members[0].candidates()
        committed = await asyncio.gather(*(member.vote(pb.CHOICE_OUTER) for member in members[:3]))
        assert {answer.commit.winner for answer in committed} == {pb.CHOICE_OUTER}
        assert [vote.worker for vote in house.entry().votes] == ["a", "b", "c"]
        late = await members[3].vote()
        assert late.commit == committed[0].commit
        await house.stop()

    play(scenario())


def test_a_vote_in_a_round_that_has_none_is_told_the_outcome_and_does_not_count(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        house.start()
        members = await house.members()
        for member in members:
            await member.submit(vector(1.0))  # equal vectors
        assert {answer.commit.head.round for answer in [await member.vote() for member in members]} == {1}
        assert house.entry().votes == ()
        await house.stop()

    play(scenario())


def test_the_candidates_of_the_last_committed_round_are_its_outcome_and_those_of_an_earlier_one_are_refused(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        house.start()
        members = await house.members()
        for number in (1, 2):
            for member in members:
                await member.receive(after=number - 1)
                await member.submit(vector(float(number)))
            await reached(lambda number=number: house.coordinator.head_round == number)
            told = await members[0].candidates()
            assert told.header.decided.head.round == told.stamp.round == number
            assert not told.header.digests and not told.vectors
        members[0].round = 1
        assert await refusal(members[0].candidates()) == ("FAILED_PRECONDITION", Reason.WRONG_ROUND)
        await house.stop()

    play(scenario())


def test_a_vote_for_any_committed_round_is_told_what_was_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=9)
        house.start()
        members = await house.members()
        for number in (1, 2, 3):
            for member in members:
                await member.receive(after=number - 1)
            await submit_all(members)
            await vote_all(members)
        for number in (1, 2, 3):
            members[0].round = number
            assert (await members[0].vote(pb.CHOICE_OUTER)).commit.head.hash == house.entry(number).hash
        for number in (0, 5, 2**40):
            members[0].round = number
            assert await refusal(members[0].vote()) == ("FAILED_PRECONDITION", Reason.WRONG_ROUND)
        await house.stop()

    play(scenario())


def test_losses_that_are_not_numbers_are_kept_and_do_not_break_the_chain(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=1)
        running = house.start()
        members = await house.members()
        await submit_all(members)

        def bend(request: pb.VoteRequest) -> None:
            request.inner_loss, request.outer_loss = float("nan"), float("-inf")

        for member in members:
            await member.candidates()
        await asyncio.gather(*(member.vote(change=bend) for member in members))
        assert await running == "completed"

    play(scenario())
    audit(tmp_path)


def test_the_loss_that_is_shown_is_the_median_of_what_this_rounds_members_say_and_nothing_where_none_is_finite(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=GRACE, rounds=9)
        house.start()
        members = await house.members()
        said = [(1.0, float("nan"), 3.0), (0.5, 7.0, 2.5), (float("inf"),) * 3]
        for round, losses in enumerate(said, start=1):
            for member, loss in zip(members, losses, strict=True):
                await member.receive(after=round - 1)
                await member.submit(APART[member.name], header=partial(report, loss))
            await vote_all(members)
            shown = house.status()
            assert shown.HasField("reported_loss") is (round < 3)
            assert shown.reported_loss == (2.0, 2.5, 0.0)[round - 1]
        await house.stop()

    play(scenario())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session": "s" * 201}, Reason.LONG_NAME),
        ({"task": "t" * 201}, Reason.LONG_NAME),
        ({"head": pb.Head(round=1, hash="h" * 201)}, Reason.LONG_NAME),
        ({"session": ""}, Reason.NO_SESSION),
        ({"task": "push"}, Reason.DIFFERENT_TASK),
        ({"parameters": 4}, Reason.DIFFERENT_MODEL),
        ({"digest_scheme": "md5"}, Reason.DIFFERENT_DIGEST),
    ],
)
def test_a_worker_that_was_built_for_something_else_is_told_so_and_remembered_nowhere(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        join = Member(house, "a").join("pull", 3, change=partial(replace, **change))
        assert await refusal(join) == ("INVALID_ARGUMENT", reason)
        assert not house.coordinator.roster.sessions and not house.coordinator.roster.heads
        await house.stop()

    play(scenario())


def replace(message: Any, **values: Any) -> None:
    for name, value in values.items():
        message.ClearField(name)
        message.MergeFrom(type(message)(**{name: value}))


def report(loss: float, part: pb.MomentumPart) -> None:
    part.header.loss = loss
