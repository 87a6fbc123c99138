"""What members may do with their uploads, streams and certificates while a round goes on."""

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon.common.clock import ManualClock
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Missing, Reason
from ostrakon.common.wire import Vector
from ostrakon.server.core.refusal import Refused
from ostrakon.server.rpc.messages import Messages
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.transport import CallFailed
from tests.harness.driven_worker import refusal, refused
from tests.harness.house import APART, D, House, Member, Pull, Upload, submit_all, vector, vote_all
from tests.harness.scenario import cancel, play, reached, settle

GRACE = 1000.0  # seconds, more than any grace in these tests

FIVE: dict[str, Any] = {"roster": tuple(APART), "f": 2}


# Uploads.


def upload_of(member: Member, momentum: Vector, *, stubborn: bool = False, kept: int = 4) -> Upload:
    """A submission that stops after its first `kept` bytes until it is released."""
    header = pb.MomentumHeader(base=member.base, parameters=3, session=member.session, digest=digest(momentum))
    data = momentum.tobytes()
    return Upload(member.connection.submit_parts, member.stamp(), header, data[:kept], data[kept:], stubborn=stubborn)


@pytest.mark.parametrize("kept", [4, 12], ids=["before its last byte", "before its end"])
@pytest.mark.parametrize("stubborn", [False, True])
def test_an_upload_ends_with_its_phase_and_never_writes_after(tmp_path: Path, stubborn: bool, kept: int) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, clock=clock, **FIVE)
        house.start()
        *others, late = await house.members()
        upload = upload_of(late, vector(9.0), stubborn=stubborn, kept=kept)
        await upload.started.wait()
        await submit_all(others)
        clock.advance(GRACE)
        await others[0].candidates()
        row = house.coordinator.aggregator.row(4).tolist()
        upload.released.set()
        assert await refusal(upload.task) == ("FAILED_PRECONDITION", Reason.LATE_SUBMISSION)
        assert house.coordinator.aggregator.row(4).tolist() == row
        assert len(house.coordinator.uploads) == 0
        await vote_all(others)
        assert house.entry().missing["e"] == Missing.NO_SUBMISSION
        await house.stop()

    play(scenario())


@pytest.mark.parametrize("kept", [4, 12], ids=["before its last byte", "before its end"])
@pytest.mark.parametrize("stubborn", [False, True])
def test_a_row_belongs_to_the_newest_upload(tmp_path: Path, stubborn: bool, kept: int) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=GRACE)
        house.start()
        _, _, c = await house.members()
        older = upload_of(c, vector(9.0), stubborn=stubborn, kept=kept)
        await older.started.wait()
        newer = upload_of(c, vector(8.0))
        await newer.started.wait()
        older.released.set()
        assert await refusal(older.task) == ("CANCELLED", Reason.NEWER_UPLOAD)
        newer.released.set()
        assert (await newer.task).uploaded
        assert house.coordinator.aggregator.row(2).tolist() == [8.0] * 3
        assert house.coordinator.round.submissions["c"].digest == digest(vector(8.0))
        await house.stop()

    play(scenario())


def test_an_upload_that_broke_off_leaves_nothing_behind_and_may_be_repeated(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, uploads=1, grace_floor=GRACE)
        house.start()
        _, _, c = await house.members()
        broken = upload_of(c, vector(9.0))
        await broken.started.wait()
        broken.task.cancel()
        await reached(lambda: len(house.coordinator.uploads) == 0)
        assert house.coordinator.round.submissions == {}
        assert (await c.submit(APART["c"])).uploaded  # the only slot is free again
        await house.stop()

    play(scenario())


def test_the_rule_never_sees_a_row_that_was_not_accepted(tmp_path: Path) -> None:
    async def final_model(folder: Path, *, poison: bool) -> str:
        clock = ManualClock()
        folder.mkdir()
        house = House(folder, clock=clock, rounds=1, **FIVE)
        house.start()
        liar, *others = await house.members()
        if poison:
            await refusal(liar.submit(vector(np.nan)))  # lies in row 0 when the others' rows are aggregated
        await submit_all(others)
        clock.advance(GRACE)
        await vote_all(others)
        await house.stop()
        return house.digest

    assert play(final_model(tmp_path / "1", poison=True)) == play(final_model(tmp_path / "2", poison=False))


# Readers.


@pytest.mark.slow
def test_a_member_that_asks_for_models_and_never_reads_them_does_not_fill_the_servers_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    d = 20_000
    monkeypatch.setattr("tests.harness.house.D", d)

    async def stall(call: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(Refused):
            await call

    async def read_nothing(part: bytes) -> None:
        await asyncio.Event().wait()  # as gRPC does while the reader's window is full

    async def scenario() -> float:
        house = House(tmp_path, rounds=20)
        house.start()
        members = await house.members()
        liar = members[2]
        readers: set[asyncio.Task[None]] = set()
        held: list[int] = []
        tracemalloc.start()
        for number in range(1, 13):
            for member in members:
                member.held = {}
                await member.receive(after=number - 1)
            await submit_all(members)
            request = pb.ProposeRequest(stamp=liar.stamp(), session=liar.session)
            reader = asyncio.create_task(stall(house.calls.propose(liar.connection.caller, request, read_nothing)))
            readers.add(reader)
            reader.add_done_callback(readers.discard)
            del reader
            await vote_all(members)
            gc.collect()  # a refusal and its frames refer to each other
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        await cancel(*readers)
        await house.stop()
        return (held[-1] - held[2]) / (4 * d)

    assert play(scenario()) < 6  # models; two a round would be 18


def test_an_average_is_that_of_the_round_in_its_header_however_slowly_it_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        house.start()
        members = await house.members()
        for round in (1, 2):
            for member in members:
                await member.receive(after=round - 1)
            await submit_all(members)
            if round == 2:
                expected = house.coordinator.chain.average()
                parts = Messages(house.coordinator).average()
                first = pb.ModelPart.FromString(next(parts))
                assert first.header.head.round == 1
            await vote_all(members)
        sent = first.chunk.data + b"".join(pb.ModelPart.FromString(part).chunk.data for part in parts)
        assert sent == expected.tobytes() != house.coordinator.chain.average().tobytes()
        await house.stop()

    play(scenario())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("run", "another", Reason.WRONG_RUN), ("term", 9, Reason.WRONG_TERM), ("round", 2, Reason.WRONG_ROUND)],
)
def test_a_call_that_means_another_run_term_or_round_is_refused_by_name(
    tmp_path: Path, field: str, value: Any, reason: Reason
) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        member = (await house.members())[0]
        setattr(member, field, value)
        calls = [member.submit(APART["a"]), member.candidates(), member.vote()]
        if field != "round":  # whose model a Broadcast asks for says its `after`
            calls.append(member.receive())
        assert [await refusal(call) for call in calls] == [("FAILED_PRECONDITION", reason)] * len(calls)
        assert not house.coordinator.round.submissions and not house.coordinator.round.votes
        await house.stop()

    play(scenario())


def test_workers_read_neither_the_average_nor_the_status(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        member = (await house.members())[0]
        request = pb.BroadcastRequest(stamp=member.stamp(), session=member.session, average=True)
        assert await refusal(anext(member.connection.broadcast(request))) == ("PERMISSION_DENIED", Reason.WRONG_ROLE)
        with pytest.raises(Refused, match="may not read the status"):
            house.calls.status(Identity("worker", "a"), pb.StatusRequest(stamp=member.stamp()))
        await house.stop()

    play(scenario())


def test_refused_calls_are_counted_but_for_observers_that_were_slower_than_the_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        watcher = Identity("observer", "watcher")
        house.calls.refuse(watcher, Reason.MODEL_REPLACED)
        house.calls.refuse(watcher, Reason.WRONG_RUN)
        house.calls.refuse(None, Reason.NO_IDENTITY)
        house.calls.refuse(Identity("worker", "a"), Reason.MODEL_REPLACED)
        once = [("", Reason.WRONG_RUN), ("", Reason.NO_IDENTITY), ("a", Reason.MODEL_REPLACED)]
        assert refused(house.status()) == dict.fromkeys(once, 1)
        await house.stop()

    play(scenario())


# Two processes with one certificate.


def test_of_two_processes_with_one_certificate_the_older_is_closed_and_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=GRACE)
        house.start()
        await Member(house, "b").enter()
        older = asyncio.create_task(house.session("a", Pull(1.0)).take_part())
        await reached(lambda: "a" in house.coordinator.round.submissions)
        await settle()  # it waits for the candidates
        newer = await Member(house, "a", session="newer").enter()
        house.break_connections()
        with pytest.raises(OstrakonError, match="another process has joined as a since"):
            await older
        assert ("a", Reason.OLDER_SESSION_CLOSED) in refused(house.status())
        assert await refusal(newer.submit(vector(7.0))) == ("ALREADY_EXISTS", Reason.ALREADY_SUBMITTED)
        await house.stop()

    play(scenario())


def test_an_older_process_that_waits_for_a_model_is_not_told_it_in_place_of_the_newer_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=1, clock=ManualClock())  # so that nobody's patience ends
        running = house.start()
        members = await house.members()
        older = asyncio.create_task(refusal(members[0].receive(after=1)))
        await settle()
        newer = Member(house, "a", session="newer")
        await newer.join("pull", D)
        newer.round = 1
        await submit_all(members[1:])
        await newer.receive()
        await newer.submit(APART["a"])
        await vote_all([newer, *members[1:]])
        assert await running == "completed"
        assert await older == ("FAILED_PRECONDITION", Reason.OLDER_SESSION)
        farewell = asyncio.create_task(house.calls.farewell())
        for member in members[1:]:
            await member.receive(after=1)
        await settle()
        assert not farewell.done()  # one has yet to hear the end
        await newer.receive(after=1)
        await farewell
        await house.stop()

    play(scenario())


def test_a_process_that_was_started_again_is_no_second_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=GRACE)
        house.start()
        killed = asyncio.create_task(house.session("a", Pull(1.0)).take_part())
        await reached(lambda: "a" in house.coordinator.round.submissions)
        house.break_connections()
        await cancel(killed)
        again = await Member(house, "a", session="newer").enter()
        assert not house.status().refused
        assert await refusal(again.submit(vector(7.0))) == ("ALREADY_EXISTS", Reason.ALREADY_SUBMITTED)
        await house.stop()

    play(scenario())


def test_a_new_process_ends_the_upload_of_the_older_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=GRACE)
        house.start()
        _, _, c = await house.members()
        upload = upload_of(c, vector(9.0))
        await upload.started.wait()
        newer = await Member(house, "c", session="newer").enter()
        upload.released.set()
        with pytest.raises(CallFailed):
            await upload.task
        assert house.coordinator.round.submissions == {}
        assert (await newer.submit(APART["c"])).uploaded
        await house.stop()

    play(scenario())
