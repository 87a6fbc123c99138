"""Who brings a lost model back to its server, and what the server answers meanwhile."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from ostrakon.common.clock import ManualClock
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import PROTOCOL
from ostrakon.server.core.commit import check_not_taken_over
from ostrakon.server.rpc.recovery import LOOK_SECONDS, SAY_AGAIN_SECONDS
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelStore
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.driven_worker import refusal, refused
from tests.harness.house import D, House, Member, Searching, Upload
from tests.harness.lost_model import completed, model_file
from tests.harness.scenario import cancel, play, settle


async def lost_run(
    folder: Path, *, revoked: Callable[[], frozenset[Identity]] = frozenset, **settings: Any
) -> tuple[Searching, ManualClock, Any]:
    """A server that looks for the model of round 3, its clock, and that model."""
    await completed(folder)
    file = model_file(folder, 3)
    theta = ModelStore(folder / "models").theta(file.name.partition(".")[0])
    assert theta is not None
    file.unlink()
    clock = ManualClock()
    return Searching(folder, clock=clock, revoked=revoked, **settings), clock, theta


async def holding(searching: Searching, name: str, theta: Any, session: str | None = None) -> Member:
    member = Member(searching, name, session)
    member.held = {digest(theta): theta}
    response = await member.join("pull", D)
    assert response.wanted == digest(theta)
    return member


async def comes_without_it(searching: Searching, name: str) -> None:
    assert await refusal(Member(searching, name).join("pull", D)) == ("UNAVAILABLE", Reason.RECOVERING)


def unfinished(member: Member, theta: Any, last: bytes = b"") -> Upload:
    """The model, without its end; `last` is what comes when it is released."""
    header = pb.MomentumHeader(base=digest(theta), parameters=D, session=member.session, digest=digest(theta))
    return Upload(member.connection.restore_parts, member.stamp(), header, theta.tobytes()[:4], last)


def status(searching: Searching) -> pb.StatusResponse:
    observer = Identity("observer", "watcher")
    return searching.calls.status(observer, pb.StatusRequest(stamp=pb.Stamp(protocol=PROTOCOL)))


def test_a_liars_model_is_refused_and_it_is_not_asked_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        for number, (sent, announced, reason) in enumerate(
            [
                (theta + 1, theta, Reason.WRONG_DIGEST),
                (theta + 1, theta + 1, Reason.WRONG_DIGEST),
                (theta[:-1], theta, Reason.WRONG_LENGTH),
                (np.append(theta, theta), theta, Reason.TOO_MUCH_DATA),
            ]
        ):
            liar = await holding(searching, "a", theta, session=str(number))
            assert await refusal(liar.restore(sent, digest(announced))) == ("INVALID_ARGUMENT", reason)
            assert await refusal(liar.join("pull", D)) == ("UNAVAILABLE", Reason.RECOVERING)
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
        hanging = unfinished(await holding(searching, "a", theta), theta).task
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
            await comes_without_it(searching, name)
        with pytest.raises(OstrakonError, match=r"\(a, b, c\) were asked .* round 3, and they do not hold it"):
            await finding

    play(scenario())


def test_it_looks_on_and_says_for_whom_it_waits_until_everybody_has_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, clock, theta = await lost_run(tmp_path)  # f = 1 of 3: one liar, and an honest one that holds nothing
        with capture_logs() as logs:
            finding = asyncio.create_task(searching.calls.theta())
            for name in "ab":
                await comes_without_it(searching, name)
            for _ in range(4):
                await settle()
                clock.advance(SAY_AGAIN_SECONDS)
            await settle()
        assert not finding.done()
        said = [one["why"] for one in logs if "why" in one]
        assert len(said) == 5
        for sentence in (said[-1], status(searching).waiting):
            assert "c did not come yet: start them" in sentence and "asked in vain: a, b" in sentence
        assert list(status(searching).awaited) == ["c"]
        await (await holding(searching, "c", theta)).restore(theta, digest(theta))
        assert (await finding).tobytes() == theta.tobytes()

    play(scenario())


def test_a_member_that_came_without_it_may_come_again_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        for name in "ab":
            await comes_without_it(searching, name)
        again = await holding(searching, "a", theta, session="another")
        await comes_without_it(searching, "c")
        await settle()
        assert not finding.done()
        assert "a announced it and did not send it yet" in searching.calls.waiting()
        await again.restore(theta, digest(theta))
        assert (await finding).tobytes() == theta.tobytes()

    play(scenario())


def test_a_liar_that_sends_garbage_again_and_again_neither_ends_the_search_nor_keeps_the_model_away(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        await comes_without_it(searching, "b")
        for number in range(50):
            liar = await holding(searching, "a", theta, session=str(number))
            assert (await refusal(liar.restore(theta + 1, digest(theta))))[1] == Reason.WRONG_DIGEST
        await settle()
        assert not finding.done()
        assert "sent something else: a" in searching.calls.waiting()
        await (await holding(searching, "c", theta)).restore(theta, digest(theta))
        assert (await finding).tobytes() == theta.tobytes()

    play(scenario())


def test_an_upload_that_was_too_slow_may_be_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path, upload_timeout=0.01)
        finding = asyncio.create_task(searching.calls.theta())
        member = await holding(searching, "a", theta)
        assert await refusal(unfinished(member, theta).task) == ("DEADLINE_EXCEEDED", Reason.SLOW_UPLOAD)
        for name in "bc":
            await comes_without_it(searching, name)
        await settle()
        assert not finding.done()
        searching.calls.uploads._timeout = 60.0  # the machine is less busy now
        await member.restore(theta, digest(theta))
        assert (await finding).tobytes() == theta.tobytes()

    play(scenario())


def test_what_an_older_session_sends_does_not_count_against_the_newer_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        older = unfinished(await holding(searching, "a", theta, session="older"), theta, last=b"\x00" * 4)
        await older.started.wait()
        newer = await holding(searching, "a", theta, session="newer")
        for name in "bc":
            await comes_without_it(searching, name)
        older.released.set()
        assert await refusal(older.task) == ("INVALID_ARGUMENT", Reason.WRONG_LENGTH)
        await settle()
        assert not finding.done()
        await newer.restore(theta, digest(theta))
        assert (await finding).tobytes() == theta.tobytes()

    play(scenario())


def test_nobody_waits_for_a_revoked_member_and_what_it_says_does_not_count(tmp_path: Path) -> None:
    async def scenario() -> None:
        revoked: set[Identity] = {Identity("worker", "a")}
        searching, clock, theta = await lost_run(tmp_path, revoked=lambda: frozenset(revoked))
        finding = asyncio.create_task(searching.calls.theta())
        await settle()
        assert await refusal(Member(searching, "a").join("pull", D)) == ("PERMISSION_DENIED", Reason.REVOKED)
        await comes_without_it(searching, "b")
        await settle()
        assert not finding.done()  # the one that is left may hold it
        assert list(status(searching).awaited) == ["c"]
        liar = await holding(searching, "c", theta)
        upload = unfinished(liar, theta)
        await upload.started.wait()
        revoked.add(Identity("worker", "c"))  # on the list now, while the server looks
        clock.advance(LOOK_SECONDS)
        with pytest.raises(OstrakonError, match=r"\(b\) were asked"):
            await finding
        assert await refusal(upload.task) == ("FAILED_PRECONDITION", Reason.LATE_SUBMISSION)
        assert status(searching).revoked == ["urn:ostrakon:worker:a", "urn:ostrakon:worker:c"]

    play(scenario())


def test_while_it_looks_every_other_call_is_told_to_come_again_or_to_join(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        member = Member(searching, "a")
        member.run, member.term, member.d = searching.lost.run.genesis.run, searching.calls.term, D
        for call in (member.receive(), member.submit(theta), member.candidates(), member.vote()):
            assert await refusal(call) == ("FAILED_PRECONDITION", Reason.NOT_JOINED)
        assert await refusal(member.restore(theta, digest(theta))) == ("FAILED_PRECONDITION", Reason.NOT_JOINED)
        member.run = "another run"
        for call in (member.join("pull", D), member.restore(theta, digest(theta))):
            assert await refusal(call) == ("FAILED_PRECONDITION", Reason.WRONG_RUN)
        observer = searching.transport("watcher", "observer")
        request = pb.BroadcastRequest(stamp=member.stamp())
        assert await refusal(anext(observer.broadcast(request))) == ("UNAVAILABLE", Reason.RECOVERING)
        stranger = Member(searching, "x")
        assert await refusal(stranger.join("pull", D)) == ("PERMISSION_DENIED", Reason.NOT_ON_THE_ROSTER)
        assert await refusal(Member(searching, "a").join("push", D)) == ("INVALID_ARGUMENT", Reason.DIFFERENT_TASK)
        found = status(searching)
        assert found.stamp.round == 4 and found.committed.head.round == 3
        assert "committed model of round 3" in found.waiting
        counted = refused(found)
        assert counted["", Reason.NOT_ON_THE_ROSTER] == counted["a", Reason.DIFFERENT_TASK] == 1
        assert not any(reason == Reason.RECOVERING for _, reason in counted)  # they are to come again: that is no fault

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
        with pytest.raises(OstrakonError, match=r"ends with round 3, does not hold: an old copy.*ostrakon branch"):
            await finding

    play(scenario())


def test_a_model_that_has_come_is_written_over_by_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        member, other = await holding(searching, "a", theta), await holding(searching, "b", theta)
        await member.restore(theta, digest(theta))
        found = await searching.calls.theta()
        for late in (member, other):
            assert await refusal(late.restore(theta + 1, digest(theta))) == ("UNAVAILABLE", Reason.RECOVERING)
            assert await refusal(late.join("pull", D)) == ("UNAVAILABLE", Reason.RECOVERING)
        assert found.tobytes() == theta.tobytes()
        assert "came back" in status(searching).waiting and not status(searching).awaited

    play(scenario())


def test_a_server_that_waits_for_its_model_hears_at_once_that_it_was_taken_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, _ = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        await settle()
        searching.calls.fail(OstrakonError("another has taken over"))
        with pytest.raises(OstrakonError, match="another has taken over"):
            await finding

    play(scenario())


def test_a_server_that_was_taken_over_does_not_go_on_with_the_model_that_came_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        searching, _, theta = await lost_run(tmp_path)
        finding = asyncio.create_task(searching.calls.theta())
        await (await holding(searching, "a", theta)).restore(theta, digest(theta))
        searching.calls.fail(OstrakonError("another has taken over"))
        with pytest.raises(OstrakonError, match="another has taken over"):
            await finding

    play(scenario())


def test_a_server_that_has_its_model_takes_none_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        member = (await house.members())[0]
        theta = member.held[member.base]
        assert await refusal(member.restore(theta, member.base)) == ("FAILED_PRECONDITION", Reason.NOT_JOINED)
        await house.stop()

    play(scenario())
