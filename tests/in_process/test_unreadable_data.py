"""A worker whose data cannot be read says so, is not waited for, and comes back when they can."""

import asyncio
from pathlib import Path

import pytest

from ostrakon.common.clock import ManualClock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.reasons import Missing
from ostrakon.common.tasks.data import DataNotReadable
from ostrakon.worker.session import Session
from tests.harness.house import House, Pull, pulls
from tests.harness.scenario import Impatient, inline, play, reached

WORDS = "data file /nowhere/x.npz does not exist"


class Shelf(Pull):
    """Data that are there when a test says so."""

    def __init__(self, target: float, readable: bool = False) -> None:
        super().__init__(target)
        self.readable = readable

    def begin(self, position: int, workers: int) -> None:
        if not self.readable:
            raise DataNotReadable(WORDS)
        super().begin(position, workers)


def test_the_first_round_does_not_wait_for_data_that_nobody_can_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, clock=ManualClock(), rounds=2, join_timeout=1000)  # whose time stands still
        reader = Session("pull", 3, Shelf(1.0), house.transport("c"), ManualClock(), offload=inline)
        told = asyncio.create_task(reader.take_part())
        await reached(lambda: house.status().data_not_readable)
        assert dict(house.status().data_not_readable) == {"c": WORDS}
        assert house.status().awaited == ["a", "b"]
        a, b, _ = pulls(house)
        assert await house.run(a, b) == ["completed"] * 3
        assert [house.entry(round).missing["c"] for round in (1, 2)] == [Missing.DATA_NOT_READABLE] * 2
        told.cancel()
        await house.stop()

    play(scenario())


def test_data_that_come_later_are_taken_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        house, shelf = House(tmp_path, rounds=2), Shelf(0.6)
        late = Session("pull", 3, shelf, house.transport("c"), Impatient(), data_timeout=1e9, offload=inline)
        house.start()
        task = asyncio.create_task(late.take_part())
        await reached(lambda: house.status().data_not_readable)
        shelf.readable = True
        await reached(lambda: not house.status().data_not_readable)
        assert set(house.status().awaited) == {"a", "b", "c"}
        a, b, _ = pulls(house)
        assert await asyncio.gather(a.take_part(), b.take_part(), task) == ["completed"] * 3
        assert not house.entry(1).missing
        await house.stop()

    play(scenario())


def test_a_worker_waits_for_its_data_as_long_as_it_was_told_and_ends_in_their_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        house, clock = House(tmp_path), Impatient()
        session = Session("pull", 3, Shelf(1.0), house.transport("c"), clock, data_timeout=20, offload=inline)
        with pytest.raises(OstrakonError, match=WORDS):
            await session.take_part()
        assert 20 <= clock.now() < 25
        await house.stop()

    play(scenario())


def test_below_its_quorum_a_round_names_those_whose_data_are_missing(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock)
        house.start()
        tasks = [
            asyncio.create_task(
                Session("pull", 3, Shelf(1.0), house.transport(name), ManualClock(), offload=inline).take_part()
            )
            for name in ("b", "c")
        ]
        await reached(lambda: len(house.status().data_not_readable) == 2)
        clock.advance(1000)
        await reached(lambda: house.status().waiting)
        assert "waiting for a, b (data not readable), c (data not readable)" in house.status().waiting
        for task in tasks:
            task.cancel()
        await house.stop()

    play(scenario())
