"""The committed model, lost at the server: found by its digest, on the disk or at a worker, and never another one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.digest import digest
from common.errors import OstrakonError
from common.model_file import write_model
from common.wire import PROTOCOL
from protos.ostrakon.v1 import parameter_server_pb2 as pb
from server.audit import audit
from server.commit import check_not_taken_over
from server.ledger.sqlite import SqliteLedger
from server.model_store import Key, ModelStore, initial_key
from server.opening import open_run
from tests.by_hand import refusal
from tests.in_process import (
    INITIAL,
    D,
    FakeClock,
    House,
    Member,
    Port,
    Searching,
    cancel,
    play,
    pulls,
    reached,
    server_settings,
    settle,
    vector,
)
from worker.session import Session

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_the_tail(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: -4 * D] + bytes(4 * D))


def flip(position: int) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return damage


IN_THETA, IN_THE_SUM, IN_THE_HEADER = -1, -4 * D - 1, 9
DAMAGES: dict[str, Damage] = {
    "deleted": Path.unlink,
    "empty": empty,
    "cut": cut,
    "zero tail": zero_the_tail,
    "a bit of theta": flip(IN_THETA),
    "a bit of the header": flip(IN_THE_HEADER),
}


def model_file(folder: Path, round: int) -> Path:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    entry, genesis = ledger.entry(round), ledger.genesis()
    ledger.close()
    assert genesis is not None
    key = initial_key(genesis.theta_0, D) if entry is None else Key(entry.winner, entry.running_sum)
    return ModelStore(folder / "models").path(key)


def winners(folder: Path) -> list[str]:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    found = [entry.winner for entry in ledger.entries()]
    ledger.close()
    return found


async def committed(folder: Path, rounds: int, **settings: Any) -> tuple[Port, list[Session], list[asyncio.Task[Any]]]:
    """A run whose server died after so many rounds; its workers live, and hold its last model."""
    folder.mkdir(exist_ok=True)
    house = House(folder, **({"rounds": 50} | settings))
    sessions = pulls(house)
    parts = [asyncio.create_task(session.take_part()) for session in sessions]
    house.start()
    await reached(lambda: house.coordinator.head_round == rounds and all(house.digest in s._held for s in sessions))
    await house.stop()
    return house.port, sessions, parts


async def completed(folder: Path, **settings: Any) -> None:
    """A run that has come to its end."""
    house = House(folder, **settings)
    await house.run(*pulls(house))
    await house.stop()


@pytest.mark.parametrize("rule", ["Mean2P", "Mean1P"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("round", [1, 3])
def test_a_lost_model_comes_back_from_the_workers_and_the_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, rule: str, damage: str, round: int
) -> None:
    async def scenario() -> None:
        port, _, parts = await committed(tmp_path / "run", round, rule=rule)
        DAMAGES[damage](model_file(tmp_path / "run", round))
        searching = Searching(tmp_path / "run", port=port, rule=rule)
        house = await searching.find(rule=rule, rounds=5)
        assert await house.start() == "completed"
        assert await asyncio.gather(*parts) == ["completed"] * 3
        await house.stop()
        (tmp_path / "calm").mkdir()
        await completed(tmp_path / "calm", rule=rule, rounds=5)

    play(scenario())
    assert audit(tmp_path / "run").rounds == 5
    assert winners(tmp_path / "run") == winners(tmp_path / "calm")


def test_a_damaged_sum_is_made_again_without_any_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        await completed(tmp_path)
        file = model_file(tmp_path, 3)
        whole = file.read_bytes()
        flip(IN_THE_SUM)(file)
        await House(tmp_path).stop()
        assert file.read_bytes() == whole

    play(scenario())


def test_the_last_model_is_looked_for_on_the_disk_before_anybody_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        await house.run(*pulls(house))
        write_model(tmp_path / "last.safetensors", house.coordinator.theta, (("weight", (D,)),), {})
        await house.stop()
        file = model_file(tmp_path, 3)
        whole = file.read_bytes()
        file.unlink()
        await House(tmp_path).stop()
        assert file.read_bytes() == whole
        # Another model under that name is not taken for it.
        file.unlink()
        write_model(tmp_path / "last.safetensors", house.coordinator.theta + 1, (("weight", (D,)),), {})
        Searching(tmp_path)

    play(scenario())


def test_theta_0_is_written_again_from_the_initial_model_or_from_a_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        session = pulls(house)[0]
        part = asyncio.create_task(session.take_part())
        house.start()
        await reached(lambda: session._held)
        await house.stop()
        file = model_file(tmp_path, 0)
        whole = file.read_bytes()
        cut(file)
        await House(tmp_path).stop()
        assert file.read_bytes() == whole
        cut(file)
        (tmp_path / INITIAL).rename(tmp_path / "elsewhere")
        searching = Searching(tmp_path, port=house.port)
        searching.lost.found(await searching.calls.theta())
        assert file.read_bytes() == whole
        await cancel(part)

    play(scenario())


def test_where_the_model_before_is_lost_too_a_sentence_names_both_and_nothing_is_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        await completed(tmp_path)

    play(scenario())
    last, before = model_file(tmp_path, 3), model_file(tmp_path, 2)
    last.unlink()
    flip(IN_THE_SUM)(before)
    content = before.read_bytes()
    with pytest.raises(OstrakonError) as caught:
        House(tmp_path)
    assert all(part in str(caught.value) for part in (last.name, before.name, "backup"))
    assert [path.name for path in (tmp_path / "models").iterdir()] == [before.name]
    assert before.read_bytes() == content


def test_where_one_model_is_kept_its_sum_has_to_be_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        port, _, parts = await committed(tmp_path, 3, keep_models=1)
        file = model_file(tmp_path, 3)
        whole = file.read_bytes()
        flip(IN_THETA)(file)
        searching = Searching(tmp_path, port=port, keep_models=1)
        searching.lost.found(await searching.calls.theta())
        assert file.read_bytes() == whole
        cut(file)
        with pytest.raises(OstrakonError, match="sum of all models so far is lost"):
            House(tmp_path, keep_models=1)
        await cancel(*parts)

    play(scenario())


def test_after_the_first_round_no_other_file_is_needed(tmp_path: Path) -> None:
    async def scenario() -> None:
        port, _, parts = await committed(tmp_path, 1)
        file = model_file(tmp_path, 1)
        whole = file.read_bytes()
        file.unlink()
        model_file(tmp_path, 0).unlink()
        searching = Searching(tmp_path, port=port)
        searching.lost.found(await searching.calls.theta())
        assert file.read_bytes() == whole
        await cancel(*parts)

    play(scenario())


def test_a_model_with_another_digest_is_never_written(tmp_path: Path) -> None:
    play(completed(tmp_path))
    file = model_file(tmp_path, 3)
    file.unlink()
    with pytest.raises(OstrakonError, match=file.name):
        Searching(tmp_path).lost.found(vector(1.0, 2.0, 3.0))
    assert not file.exists()


# Who answers, and what.


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


def test_the_models_that_are_kept_are_those_of_the_last_rounds_over_a_restart_too(tmp_path: Path) -> None:
    play(completed(tmp_path))
    ledger, store = SqliteLedger(tmp_path / "ledger.sqlite"), ModelStore(tmp_path / "models")
    run = open_run(server_settings(tmp_path), ledger, store)
    ledger.close()
    assert [store.path(key) for key in run.kept] == [model_file(tmp_path, 2), model_file(tmp_path, 3)]
    store.prune(run.kept)

    async def prolonged() -> None:
        house = House(tmp_path, rounds=4)
        await house.run(*pulls(house))
        await house.stop()

    play(prolonged())
    kept = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert kept == sorted(model_file(tmp_path, round).name for round in (3, 4))
