"""Uploads into rows: what was accepted lies in its row, whoever else writes there, and however its stream ends."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import partial
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest

from ostrakon.common.digest import digest
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import CHUNK_BYTES, LANES, PROTOCOL, Vector, chunks
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.streams import Displaced, Streams
from ostrakon.server.core.uploads import FEWEST_PARTS, LANES_EACH, Uploads
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.house import D, Upload, vector
from tests.harness.scenario import cancel, play, settle

STAMP = pb.Stamp(protocol=PROTOCOL, run="run", term=1, round=1)
PATIENT: dict[str, Any] = {"slots": 8, "timeout": 60.0, "rate": 1e6}


def part(offset: int, data: bytes) -> pb.MomentumPart:
    return pb.MomentumPart(stamp=STAMP, chunk=pb.Chunk(offset=offset, data=data))


async def stream(*parts: pb.MomentumPart | None) -> AsyncIterator[pb.MomentumPart]:
    """These parts; None stands for a pause without an end."""
    for one in parts:
        if one is None:
            await asyncio.Event().wait()
        else:
            yield one


async def received(uploads: Uploads, member: str, row: Vector, parts: AsyncIterator[pb.MomentumPart]) -> Reason | None:
    """The reason for which an upload is refused; None if it is accepted."""
    try:
        await uploads.receive(member, parts, row, await uploads.header(parts))
    except Refused as refusal:
        return refusal.reason
    return None


def header(model: Vector) -> pb.MomentumHeader:
    return pb.MomentumHeader(parameters=model.size, digest=digest(model))


def whole(model: Vector, cuts: Iterable[int] = ()) -> list[pb.MomentumPart]:
    """The parts of an upload, with its bytes cut here."""
    data, ends = model.tobytes(), [0, *cuts, model.nbytes]
    chunks = [part(start, data[start:end]) for start, end in pairwise(ends)]
    return [pb.MomentumPart(stamp=STAMP, header=header(model)), *chunks]


@pytest.mark.parametrize("kept", [4, 8, 4 * D])
@pytest.mark.parametrize("stubborn", [False, True])
def test_what_is_accepted_lies_in_the_row_whenever_a_newer_stream_took_it_over(kept: int, stubborn: bool) -> None:
    async def scenario() -> None:
        uploads, row = Uploads(**PATIENT), np.zeros(D, dtype=np.float32)
        old, new = vector(9.0), vector(8.0)

        def upload(model: Vector, first: int, **how: Any) -> Upload:
            data = model.tobytes()
            return Upload(partial(received, uploads, "a", row), STAMP, header(model), data[:first], data[first:], **how)

        older = upload(old, kept, stubborn=stubborn)
        await older.started.wait()
        newer = upload(new, 4)
        await newer.started.wait()
        older.released.set()
        assert await older.task == Reason.LATE_SUBMISSION
        newer.released.set()
        assert await newer.task is None
        assert digest(row) == digest(new)
        assert len(uploads) == 0

    play(scenario())


@pytest.mark.parametrize("kept", [4, 4 * D])
@pytest.mark.parametrize("stubborn", [False, True])
def test_no_stream_is_accepted_after_its_phase(kept: int, stubborn: bool) -> None:
    async def scenario() -> None:
        uploads, row, model = Uploads(**PATIENT), np.zeros(D, dtype=np.float32), vector(9.0)
        data = model.tobytes()
        send = partial(received, uploads, "a", row)
        late = Upload(send, STAMP, header(model), data[:kept], data[kept:], stubborn=stubborn)
        await late.started.wait()
        uploads.close_all()
        row[:] = 7.0  # it is somebody else's now
        late.released.set()
        assert await late.task == Reason.LATE_SUBMISSION
        assert row.tolist() == [7.0] * D

    play(scenario())


def test_the_task_of_a_displaced_stream_goes_on_uncancelled() -> None:
    async def scenario() -> None:
        streams = Streams()

        async def displaced() -> int:
            with pytest.raises(Displaced), streams.claim("a"):
                await asyncio.Event().wait()
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        task = asyncio.create_task(displaced())
        await settle()
        streams.close("a")
        assert await task == 0

    play(scenario())


def test_an_upload_that_waits_for_a_slot_may_be_closed_and_one_that_ends_frees_its_own() -> None:
    async def scenario() -> None:
        uploads, rows = Uploads(**PATIENT | {"slots": 1}), np.zeros((3, D), dtype=np.float32)
        model = vector(1.0)
        hanging = asyncio.create_task(received(uploads, "a", rows[0], stream(*whole(model)[:1], None)))
        await settle()
        waiting = [
            asyncio.create_task(received(uploads, name, row, stream(*whole(model))))
            for name, row in zip("bc", rows[1:], strict=True)
        ]
        await settle()
        assert len(uploads) == 3 and not any(task.done() for task in waiting)
        uploads.close("b")
        assert await waiting[0] == Reason.LATE_SUBMISSION
        await settle()
        assert not waiting[1].done()
        uploads.close("a")
        assert await asyncio.gather(hanging, waiting[1]) == [Reason.LATE_SUBMISSION, None]
        assert rows[2].tolist() == model.tolist() and not rows[1].any()

    play(scenario())


def test_a_caller_that_goes_away_is_no_displaced_stream() -> None:
    async def scenario() -> None:
        uploads, row = Uploads(**PATIENT), np.zeros(D, dtype=np.float32)
        gone = asyncio.create_task(received(uploads, "a", row, stream(*whole(vector(1.0))[:1], None)))
        await settle()
        await cancel(gone)
        assert gone.cancelled() and len(uploads) == 0

    play(scenario())


def test_the_time_for_an_upload_grows_with_what_has_come_and_starts_with_its_slot() -> None:
    async def scenario() -> None:
        # 8 bytes a second: 4 bytes, one value, bring half a second more.
        uploads, row = Uploads(slots=1, timeout=0.05, rate=8.0), np.zeros(D, dtype=np.float32)
        loop, model = asyncio.get_running_loop(), vector(1.0)
        start = loop.time()
        assert await received(uploads, "a", row, stream(*whole(model, [4])[:2], None)) == Reason.SLOW_UPLOAD
        assert 0.5 < loop.time() - start < 5.0
        start = loop.time()
        both = [received(uploads, name, row, stream(*whole(model)[:1], None)) for name in "ab"]
        assert await asyncio.gather(*both) == [Reason.SLOW_UPLOAD] * 2
        assert loop.time() - start >= 0.1  # the second one's time began when the first one's was over

    play(scenario())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], Reason.NO_HEADER),
        (whole(vector(1.0))[1:], Reason.NO_HEADER),
        (whole(vector(1.0))[:1] * 2, Reason.NO_CHUNK),
        (whole(vector(1.0))[:1], Reason.WRONG_LENGTH),
        (whole(vector(1.0))[:1] + whole(vector(2.0))[1:], Reason.WRONG_DIGEST),
        (whole(vector(np.nan)), Reason.NOT_FINITE),
        ([*whole(vector(1.0), [4])[:2], pb.MomentumPart(chunk=part(4, b"....").chunk)], Reason.MIXED_STAMPS),
    ],
)
def test_what_is_no_vector_is_refused_by_name(parts: list[pb.MomentumPart], reason: str) -> None:
    row = np.zeros(D, dtype=np.float32)
    assert play(received(Uploads(**PATIENT), "a", row, stream(*parts))) == reason


def test_a_vector_in_crumbs_is_refused_and_one_in_few_parts_is_not() -> None:
    for d in (FEWEST_PARTS + 1, CHUNK_BYTES):  # 68 bytes, and 4 MiB
        model, row = np.ones(d, dtype=np.float32), np.zeros(d, dtype=np.float32)
        most = FEWEST_PARTS + 16 * model.nbytes // CHUNK_BYTES
        for parts, reason in ((most, None), (most + 1, Reason.TOO_MANY_PARTS)):
            cuts = range(4, 4 * parts, 4)
            assert play(received(Uploads(**PATIENT), "a", row, stream(*whole(model, cuts)))) == reason


def test_a_header_that_does_not_come_is_a_slow_upload() -> None:
    row = np.zeros(D, dtype=np.float32)
    assert play(received(Uploads(**PATIENT | {"timeout": 0.01}), "a", row, stream(None))) == Reason.SLOW_UPLOAD


def lane_parts(model: Vector, lane: int, lanes: int) -> list[pb.MomentumPart]:
    """The parts of one of an upload's streams."""
    first = pb.MomentumPart(stamp=STAMP, header=header(model))
    first.header.lane, first.header.lanes = lane, lanes
    return [first, *(pb.MomentumPart(stamp=STAMP, chunk=chunk) for chunk in chunks(model, lane, lanes))]


LONG = 3 * CHUNK_BYTES // 4


def long_vector(seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(LONG, dtype=np.float32)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_an_upload_over_several_streams_is_one_whichever_of_them_comes_first(order: tuple[int, ...]) -> None:
    async def scenario() -> None:
        uploads, row, model = Uploads(**PATIENT), np.zeros(LONG, dtype=np.float32), long_vector(1)
        came = {}
        for lane in order:
            parts = stream(*lane_parts(model, lane, 3))
            came[lane] = asyncio.create_task(uploads.receive("a", parts, row, await uploads.header(parts)))
            await settle()
            assert len(uploads) == 1 or all(task.done() for task in came.values())
        assert [await came[lane] for lane in range(3)] == [True, False, False]
        assert digest(row) == digest(model)
        assert len(uploads) == 0

    play(scenario())


def test_a_newer_upload_takes_the_row_from_all_streams_of_the_older_one() -> None:
    async def scenario() -> None:
        uploads, row, older, newer = Uploads(**PATIENT), np.zeros(LONG, dtype=np.float32), *map(long_vector, (1, 2))
        hanging = [
            asyncio.create_task(received(uploads, "a", row, stream(*lane_parts(older, lane, 2)[:2], None)))
            for lane in range(2)
        ]
        await settle()
        assert not any(task.done() for task in hanging)
        lanes = [received(uploads, "a", row, stream(*lane_parts(newer, lane, 3))) for lane in range(3)]
        assert await asyncio.gather(*lanes) == [None] * 3
        assert await asyncio.gather(*hanging) == [Reason.LATE_SUBMISSION] * 2
        assert digest(row) == digest(newer)
        alone = await received(uploads, "a", row, stream(*whole(older, range(CHUNK_BYTES, older.nbytes, CHUNK_BYTES))))
        assert (alone, digest(row)) == (None, digest(older))

    play(scenario())


def test_an_upload_whose_other_streams_bring_nothing_is_a_slow_one() -> None:
    async def scenario() -> None:
        uploads, row = Uploads(slots=1, timeout=0.05, rate=1e9), np.zeros(LONG, dtype=np.float32)
        first = received(uploads, "a", row, stream(*lane_parts(long_vector(1), 0, 2)))
        other = received(uploads, "a", row, stream(*lane_parts(long_vector(1), 1, 2)[:1], None))
        slow, ended = await asyncio.gather(first, other)
        assert slow == Reason.SLOW_UPLOAD
        assert ended in (Reason.SLOW_UPLOAD, Reason.LATE_SUBMISSION)  # by itself, or with the first
        assert len(uploads) == 0

    play(scenario())


def test_streams_beyond_what_there_is_room_for_are_refused_by_name() -> None:
    async def scenario() -> None:
        uploads, rows = Uploads(**PATIENT), np.zeros((2, LONG), dtype=np.float32)
        lanes = LANES  # two uploads of so many are more than there is room for
        room = LANES_EACH * PATIENT["slots"]
        assert lanes <= room < 2 * (lanes - 1)
        model = long_vector(1)
        tasks = [
            asyncio.create_task(received(uploads, name, row, stream(lane_parts(model, lane, lanes)[0], None)))
            for name, row in zip("ab", rows, strict=True)
            for lane in range(lanes)
        ]
        await settle()
        assert [task.result() for task in tasks if task.done()] == [Reason.NO_LANE] * (2 * (lanes - 1) - room)
        uploads.close_all()
        await asyncio.gather(*tasks)
        for lane, lanes in ((0, LANES + 1), (2, 2), (1, 0)):
            (first, *_), row = lane_parts(model, 0, 1), rows[0]
            first.header.lane, first.header.lanes = lane, lanes
            assert await received(uploads, "a", row, stream(first)) == Reason.NO_LANE

    play(scenario())
