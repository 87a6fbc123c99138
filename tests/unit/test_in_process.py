"""Server and workers together, without gRPC, sockets or waiting for the clock."""

import asyncio
from pathlib import Path

from server.audit import audit
from tests.in_process import House, Pull


def test_three_rounds_end_with_the_same_model_everywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        sessions = [house.session(name, Pull(target)) for name, target in (("a", 1.0), ("b", 1.1), ("c", 0.9))]
        assert await house.run(*sessions) == ["completed"] * 4
        for session in sessions:
            assert list(session._held) == [house.digest]
        assert [entry.round for entry in house.ledger.entries()] == [1, 2, 3]
        assert all(len(entry.votes) >= 2 for entry in house.ledger.entries())

    asyncio.run(scenario())
    audit(tmp_path)


def test_a_liar_does_not_move_the_model_away(tmp_path: Path) -> None:
    async def scenario() -> float:
        house = House(tmp_path, rounds=10)
        liar = Pull(1.0, lie=lambda vector: -100 * vector)
        await house.run(house.session("a", liar), house.session("b", Pull(1.0)), house.session("c", Pull(1.01)))
        return float(house.coordinator.theta[0])

    assert 0.9 < asyncio.run(scenario()) < 1.1
