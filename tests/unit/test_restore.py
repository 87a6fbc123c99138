"""Who brings a lost model back to its server, and what the server answers meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import PROTOCOL
from ostrakon.server.audit import audit
from ostrakon.server.commit import check_not_taken_over
from ostrakon.server.ledger.sqlite import SqliteLedger
from ostrakon.server.model_store import ModelStore
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.by_hand import refusal
from tests.in_process import D, FakeClock, House, Member, Searching, cancel, play, settle
from tests.lost import completed, model_file


async def lost_run(folder: Path, **settings: Any) -> tuple[Searching, FakeClock, Any]:
    """A server that looks for the model of round 3, its clock, and that model."""
    await completed(folder, **settings)
    file = model_file(folder, 3)
    theta = ModelStore(folder / "models").theta(file.name.partition(".")[0])
    assert theta is not None
    file.unlink()
    clock = FakeClock()
    return Searching(folder, clock=clock, **settings), clock, theta


async def holding(searching: Searching, name: str, theta: Any, session: str | None = None) -> Member:
    member = Member(searching, name, session)
    member.held = {digest(theta): theta}
    response = await member.join("pull", D)
    assert response.wanted == digest(theta)
    return member


def test_a_liars_model_is_refused_and_it_is_not_asked_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        for number, (sent, announced, reason) in enumerate(
            [
                (theta + 1, theta, "wrong digest"),
                (theta + 1, theta + 1, "wrong digest"),
                (theta[:-1], theta, "wrong length"),
                (np.append(theta, theta), theta, "too much data"),
            ]
        ):
            liar = await holding(searching, "a", theta, session=str(number))
            assert await refusal(liar.restore(sent, digest(announced))) == ("INVALID_ARGUMENT", reason)
            assert await refusal(liar.join("pull", D)) == ("UNAVAILABLE", "recovering")
        await settle()
        assert not finding.done()
        honest = await holding(searching, "b", theta)
        await honest.restore(theta, digest(theta))
        assert (await finding).tobytes() == theta.tobytes()

    play(scenario())


def test_f_uploads_that_hang_keep_no_other_worker_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path, uploads=1)
        finding = asyncio.create_task(searching.calls.theta())
        liar = await holding(searching, "a", theta)

        async def half() -> AsyncIterator[pb.MomentumPart]:
            header = pb.MomentumHeader(base=digest(theta), parameters=D, session=liar.session, digest=digest(theta))
            yield pb.MomentumPart(stamp=liar.stamp(), header=header)
            yield pb.MomentumPart(stamp=liar.stamp(), chunk=pb.Chunk(offset=0, data=theta.tobytes()[:4]))
            await asyncio.Event().wait()

        hanging = asyncio.create_task(liar.connection.restore(half()))
        await settle()
        honest = await holding(searching, "b", theta)
        await honest.restore(theta, digest(theta))
        found = await finding
        assert found.tobytes() == theta.tobytes()
        await settle()
        assert hanging.done()  # it cannot write any more
        searching.lost.found(found)
        await cancel(hanging)

    play(scenario())
    audit(tmp_path)


def test_a_server_whose_model_nobody_holds_ends_with_a_sentence(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, _ = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        for name in "abc":
            await settle()
            assert not finding.done()
            assert await refusal(Member(searching, name).join("pull", D)) == ("UNAVAILABLE", "recovering")
        with pytest.raises(OstrakonError, match=r"a, b, c were asked .* round 3 and do not hold it"):
            await finding

    play(scenario())


def test_f_silent_workers_do_not_keep_it_waiting_for_ever_and_more_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, clock, _ = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        await refusal(Member(searching, "a").join("pull", D))
        clock.advance(10_000)
        await settle()
        assert not finding.done()
        assert "waiting for a worker that holds it: b, c" in searching.calls.waiting()
        await refusal(Member(searching, "b").join("pull", D))
        with pytest.raises(OstrakonError, match="a, b were asked"):
            await finding

    play(scenario())


def test_while_it_looks_every_other_call_is_told_to_come_again_or_to_join(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        member = Member(searching, "a")
        member.run, member.term, member.d = searching.lost.run.genesis.run, searching.calls.term, D
        for call in (member.receive(), member.submit(theta), member.candidates(), member.vote()):
            assert await refusal(call) == ("FAILED_PRECONDITION", "not joined")
        assert await refusal(member.restore(theta, digest(theta))) == ("FAILED_PRECONDITION", "not joined")
        observer = searching.transport("watcher", "observer")
        request = pb.BroadcastRequest(stamp=member.stamp())
        assert await refusal(anext(observer.broadcast(request))) == ("UNAVAILABLE", "recovering")
        stranger = Member(searching, "x")
        assert await refusal(stranger.join("pull", D)) == ("PERMISSION_DENIED", "not on the roster")
        assert await refusal(Member(searching, "a").join("push", D)) == ("INVALID_ARGUMENT", "different task")
        status = searching.calls.status(observer.caller, pb.StatusRequest(stamp=pb.Stamp(protocol=PROTOCOL)))
        assert status.stamp.round == 4 and status.committed.head.round == 3
        assert "committed model of round 3" in status.waiting

    play(scenario())


def test_a_server_that_was_taken_over_while_it_looked_ends(tmp_path: Path) -> None:
    play(completed(tmp_path))
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    term = ledger.draw_term("looking")
    check_not_taken_over(ledger, term)
    ledger.draw_term("another")
    with pytest.raises(OstrakonError, match=rf"larger term {term + 1} has taken over this run from term {term}"):
        check_not_taken_over(ledger, term)
    ledger.close()


def test_an_old_copy_without_its_model_is_an_old_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, _ = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())

        def remember(request: pb.JoinRequest) -> None:
            request.head.CopyFrom(pb.Head(round=7, hash="7" * 64))

        for name in "ab":
            await refusal(Member(searching, name).join("pull", D, change=remember))
        with pytest.raises(OstrakonError, match=r"ends with round 3, does not hold: an old copy.*server restore"):
            await finding

    play(scenario())


def test_a_server_that_has_its_model_takes_none_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        member = (await house.members())[0]
        theta = member.held[member.base]
        assert await refusal(member.restore(theta, member.base)) == ("FAILED_PRECONDITION", "not joined")
        await house.stop()

    play(scenario())
