"""Server and workers together, without gRPC, sockets or waiting for the clock."""

import asyncio
from pathlib import Path

import numpy as np

from ostrakon.common.clock import ManualClock
from ostrakon.server.core.round import Phase
from ostrakon.server.storage.audit import audit
from tests.harness.house import APART, D, House, Member, Pull, submit_all
from tests.harness.scenario import cancel, play, reached, settle

LONG = 1000.0  # seconds, more than any grace in these tests


def test_a_vote_that_lacks_votes_is_open_to_members_that_come_in_the_middle_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock, rounds=2, roster=tuple(APART), f=2)
        house.start()
        members = [await Member(house, name).enter() for name in "abcd"]
        await submit_all(members)
        clock.advance(LONG)
        await reached(lambda: house.coordinator.round.phase is Phase.VOTING)
        for member in members:
            await member.candidates()
        votes = [asyncio.create_task(member.vote()) for member in members[:2]]  # c and d die before theirs
        again = [asyncio.create_task(house.session(name, Pull(1.0)).take_part()) for name in "ce"]
        await settle()
        assert house.coordinator.round.votes.keys() == {"a", "b"}  # there is time yet for those who submitted
        clock.advance(LONG)
        await reached(lambda: house.coordinator.head_round or len(house.coordinator.round.votes) == 4)
        clock.advance(LONG)
        await reached(lambda: house.coordinator.head_round)
        assert {vote.worker for vote in house.entry().votes} > {"a", "b"}
        await cancel(*votes, *again)
        await house.stop()

    play(scenario())


def test_a_model_that_stays_all_zeros_stays_on_the_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=5)
        await house.run(*(house.session(name, Pull(0.0)) for name in "abc"))
        assert house.coordinator.chain.theta.tolist() == [0.0] * D
        await house.stop()
        again = House(tmp_path, rounds=6)
        assert np.array_equal(again.coordinator.chain.theta, house.coordinator.chain.theta)
        await again.stop()

    play(scenario())


def test_three_rounds_end_with_the_same_model_everywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        sessions = [house.session(name, Pull(target)) for name, target in (("a", 1.0), ("b", 1.1), ("c", 0.9))]
        assert await house.run(*sessions) == ["completed"] * 4
        for session in sessions:
            assert list(session.rounds.exchange.held) == [house.digest]
        assert [entry.round for entry in house.ledger.entries()] == [1, 2, 3]
        assert all(len(entry.votes) >= 2 for entry in house.ledger.entries())

    asyncio.run(scenario())
    audit(tmp_path)


def test_a_liar_does_not_move_the_model_away(tmp_path: Path) -> None:
    async def scenario() -> float:
        house = House(tmp_path, rounds=10)
        liar = Pull(1.0, lie=lambda vector: -100 * vector)
        await house.run(house.session("a", liar), house.session("b", Pull(1.0)), house.session("c", Pull(1.01)))
        return float(house.coordinator.chain.theta[0])

    assert 0.9 < asyncio.run(scenario()) < 1.1
