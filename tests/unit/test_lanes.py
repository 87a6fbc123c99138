"""Over how many connections a worker sends its momentum: several where that was seen to be faster, else one."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from ostrakon.common.wire import CHUNK_BYTES, LANES
from ostrakon.worker.lanes import FIRST_PAUSE, MOST_CONNECTIONS, Lanes, Pace, answer
from tests.harness.scenario import play

SIZE = 40 * CHUNK_BYTES


def tried() -> Lanes:
    """After one upload over a line on which each chunk took 0.1 s."""
    lanes = Lanes()
    assert lanes.count(SIZE) == 1
    lanes.sent_alone(SIZE, 4.0, 0.1)
    assert lanes.count(SIZE) == LANES
    return lanes


def test_several_lanes_are_kept_where_they_are_faster() -> None:
    lanes = tried()
    lanes.sent_over_several(SIZE, 0.5)
    assert lanes.count(SIZE) == LANES
    lanes.sent_over_several(SIZE, 10.0)  # a busy moment
    assert lanes.count(SIZE) == LANES
    assert (lanes.count(CHUNK_BYTES), lanes.count(3 * CHUNK_BYTES + 1)) == (1, 3)


def test_where_they_bring_nothing_they_are_tried_ever_more_rarely() -> None:
    lanes, trials = tried(), []
    for upload in range(8 * FIRST_PAUSE):
        if lanes.count(SIZE) > 1:
            trials.append(upload)
            lanes.sent_over_several(SIZE, 3.9)
        else:
            lanes.sent_alone(SIZE, 4.0, 0.1)
    assert [later - earlier for earlier, later in pairwise(trials)] == [9, 17, 33]


@pytest.mark.parametrize(("chunk_seconds", "size"), [(0.01, SIZE), (2.0, SIZE), (0.1, CHUNK_BYTES)])
def test_a_short_line_a_slow_one_and_a_short_vector_have_one(chunk_seconds: float, size: int) -> None:
    lanes = Lanes()
    lanes.sent_alone(size, 4.0, chunk_seconds)
    assert lanes.count(size) == 1


def test_workers_share_the_servers_connections_and_a_lane_that_fails_halves_them() -> None:
    lanes = tried()
    lanes.among(MOST_CONNECTIONS // 4)
    assert lanes.count(SIZE) == 4
    lanes.failed()
    assert lanes.count(SIZE) == 2
    lanes.failed()
    lanes.failed()
    assert lanes.count(SIZE) == 1


def test_the_fastest_chunk_is_measured_and_not_what_goes_before() -> None:
    async def scenario() -> None:
        now = 0.0
        pace = Pace(lambda: now)

        async def parts() -> AsyncIterator[str]:
            for part in ("header", "first", "second", "third"):
                yield part

        async for part in pace(parts()):
            now += {"header": 0.0, "first": 0.01, "second": 3.0, "third": 2.0}[part]
        assert pace.fastest == 2.0

    play(scenario())


def test_the_first_streams_answer_is_that_of_all_and_another_ones_failure_too() -> None:
    async def scenario() -> None:
        ended = 0

        async def call(answer: int | Exception | None) -> int:
            nonlocal ended
            try:
                if answer is None:
                    await asyncio.Event().wait()
                await asyncio.sleep(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer or 0
            finally:
                ended += 1

        assert await answer(call(1), call(2), call(None)) == 1
        with pytest.raises(ValueError, match="no room"):
            await answer(call(None), call(2), call(ValueError("no room")))
        assert ended == 6

    play(scenario())
