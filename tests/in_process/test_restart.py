"""One chain over all servers of a run: killed, restarted, taken over, or started from an old copy."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import Vector
from ostrakon.server import life, process
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.initial import Initial, check_same_run
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelKey, ModelStore
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.house import House, Member, pulls, submit_all, up_to_the_vote, vote_all
from tests.harness.scenario import cancel, play, reached, settle

# Restarts.


@pytest.mark.parametrize("steps", [15, 40, 90, 200])
def test_a_server_that_is_killed_again_and_again_goes_on_with_the_same_chain(tmp_path: Path, steps: int) -> None:
    async def scenario(folder: Path, kills: int) -> list[str]:
        folder.mkdir()
        house = House(folder, rounds=4)
        sessions = pulls(house)
        parts = [asyncio.create_task(session.take_part()) for session in sessions]
        running = house.start()
        for _ in range(kills):
            for _ in range(steps):
                await asyncio.sleep(0)
            told = [session.rounds.exchange.head for session in sessions]
            await house.stop()
            house = House(folder, rounds=4, port=house.port)
            for head in told:  # what anybody was told is in the ledger
                if head.round:
                    entry = house.ledger.entry(head.round)
                    assert entry is not None and entry.hash == head.hash
            running = house.start()
        assert await running == "completed"
        assert await asyncio.gather(*parts) == ["completed"] * 3
        entries = list(house.ledger.entries())
        terms = [entry.term for entry in entries]
        assert terms == sorted(terms) and set(terms) <= set(house.ledger.terms())
        assert house.coordinator.term == kills + 1
        await house.stop()
        return [entry.winner for entry in entries]

    undisturbed = play(scenario(tmp_path / "calm", 0))
    assert play(scenario(tmp_path / "killed", 8)) == undisturbed
    audit(tmp_path / "killed")


@pytest.mark.parametrize("rule", ["Mean2P", "Mean1P"])
def test_a_server_killed_before_its_commit_hears_the_momenta_of_that_round_again(tmp_path: Path, rule: str) -> None:
    async def scenario() -> None:
        asked = asyncio.Event()

        async def offload(function: Callable[..., Any], *arguments: Any) -> Any:
            if function.__name__ == "candidates":
                asked.set()
                await asyncio.Event().wait()
            return function(*arguments)

        house = House(tmp_path, rule=rule, offload=offload)
        parts = [asyncio.create_task(session.take_part()) for session in pulls(house)]
        house.start()
        await asked.wait()
        await settle()  # whoever has submitted waits for what comes next
        await house.stop()
        again = House(tmp_path, rule=rule, port=house.port)
        assert await again.start() == "completed"
        assert await asyncio.gather(*parts) == ["completed"] * 3
        await again.stop()

    play(scenario())


def test_the_running_sum_holds_every_committed_model_over_a_restart_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        models: list[Vector] = []
        for rounds in (2, 5):
            house = House(tmp_path, rounds=rounds)
            running = house.start()
            members = await house.members()
            while not running.done():
                await submit_all(members)
                await vote_all(members)
                models.append(house.coordinator.chain.theta)
                if len(models) == rounds:
                    await running
                    break
                for member in members:
                    await member.receive(after=len(models))
            expected = np.sum(models, axis=0, dtype=np.float64)
            np.testing.assert_allclose(house.coordinator.chain.running_sum, expected, rtol=1e-15)
            entry = house.entry(rounds)
            stored = ModelStore(tmp_path / "models").read(ModelKey(entry.winner, entry.running_sum))
            assert stored.running_sum.tolist() == house.coordinator.chain.running_sum.tolist()
            await house.stop()

    play(scenario())


def test_a_restarted_server_says_what_was_committed_and_answers_under_a_larger_term(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        house.start()
        answers = await asyncio.gather(*await up_to_the_vote(house))
        await house.stop()
        again = House(tmp_path)
        assert again.coordinator.chain.head_hash == answers[0].commit.head.hash
        assert again.coordinator.chain.digest == again.digest == answers[0].commit.digest
        member = Member(again, "a")
        response = await member.join("pull", 3)
        assert response.stamp.term == answers[0].stamp.term + 1
        assert response.stamp.round == 2
        await again.stop()

    play(scenario())


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"gamma": 0.25}, ["gamma", "0.5", "0.25"]),
        ({"gamma": "0.5,0.25@9"}, ["gamma", "0.5", "0.25@9"]),
        ({"weight_decay": 0.25}, ["weight_decay", "0.0", "0.25"]),
        ({"f": 0}, ["f = 1", "0"]),
        ({"rule": "Cent2P"}, ["rule", "Mean2P", "Cent2P"]),
        ({"roster": ("a", "c", "b")}, ["roster", "['a', 'b', 'c']", "['a', 'c', 'b']"]),
        ({"quorum": "asynchronous"}, ["quorum", "synchronous", "asynchronous"]),
        ({"task": "other"}, ["task", "pull", "other"]),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path, changed: dict[str, Any], named: list[str]) -> None:
    House(tmp_path).ledger.close()
    with pytest.raises(OstrakonError) as caught:
        House(tmp_path, **changed)
    assert all(word in str(caught.value) for word in named)


def test_a_run_may_be_prolonged(tmp_path: Path) -> None:
    async def scenario() -> None:
        for rounds in (2, 5):
            house = House(tmp_path, rounds=rounds)
            assert await house.run(*pulls(house)) == ["completed"] * 4
            assert house.coordinator.head_round == rounds
            await house.stop()

    play(scenario())
    assert audit(tmp_path).rounds == 5


# Two servers.


def test_a_server_that_was_taken_over_ends_with_a_sentence_and_commits_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = House(tmp_path)
        running = first.start()
        members = await first.members()
        await submit_all(members)
        for member in members:
            await member.candidates()
        second = House(tmp_path)
        votes = [asyncio.create_task(member.vote()) for member in members]
        with pytest.raises(OstrakonError, match="larger term 2 has taken over this run from term 1"):
            await running
        await settle()
        assert not any(vote.done() for vote in votes)
        assert second.ledger.head() is None
        await cancel(*votes)
        assert await second.run(*pulls(second)) == ["completed"] * 4
        assert {entry.term for entry in second.ledger.entries()} == {2}
        await first.stop()
        await second.stop()

    play(scenario())
    audit(tmp_path)


def test_the_head_is_read_after_the_term_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the server that is taken over could commit in between, and both would end."""
    settings = House(tmp_path).settings.model_copy(update={"listen": "127.0.0.1:0", "device": "cpu"})
    terms: list[dict[int, str]] = []

    def open_run(settings: object, initial: object, ledger: SqliteLedger, store: object) -> None:
        terms.append(ledger.terms())
        raise OstrakonError("far enough")

    monkeypatch.setattr(life, "open_run", open_run)
    with pytest.raises(OstrakonError, match="far enough"):
        process.serve(settings)
    assert sorted(terms[0]) == [1, 2]  # the first is the House's


def test_a_rule_that_some_round_could_not_use_is_refused_before_the_run_begins(tmp_path: Path) -> None:
    settings = ServerSettings(
        task="linear",
        rule="Krum",
        roster=tuple(f"w{number:02}" for number in range(11)),
        f=4,
        gamma=0.1,
        quorum="asynchronous",
        rounds=1,
        directory=tmp_path / "run",
        initial=tmp_path / "initial.safetensors",
    )
    with pytest.raises(OstrakonError, match=r"rows of 9 of the 11 workers only: f=4 of n=9 workers: Krum needs"):
        process.serve(settings)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_rule_however_it_is_written(tmp_path: Path) -> None:
    house = House(tmp_path)
    initial = Initial(house.settings.initial)
    genesis = house.ledger.genesis()
    check_same_run(house.settings.model_copy(update={"rule": " Mean2P() "}), initial, genesis)
    with pytest.raises(OstrakonError, match="started with rule = 'Mean2P', the settings now say 'Cent2P'"):
        check_same_run(house.settings.model_copy(update={"rule": "Cent2P"}), initial, genesis)


# An old copy of the run's folder.


def test_an_old_copy_that_is_put_back_is_stopped_by_what_the_workers_remember(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder, copy = tmp_path / "run", tmp_path / "copy"
        folder.mkdir()
        house = House(folder, rounds=50)
        parts = [asyncio.create_task(session.take_part()) for session in pulls(house)]
        house.start()
        await reached(lambda: house.coordinator.head_round == 2)
        await house.stop()
        shutil.copytree(folder, copy)
        house = House(folder, rounds=50, port=house.port)
        house.start()
        await reached(lambda: house.coordinator.head_round == 5)
        await house.stop()
        shutil.rmtree(folder)
        copy.rename(folder)
        house = House(folder, rounds=50, port=house.port)
        with pytest.raises(OstrakonError, match="ends with round 2, does not hold: an old copy was put back"):
            await house.start()
        assert house.coordinator.head_round == 2
        await cancel(*parts)
        await house.stop()

    play(scenario())


@pytest.mark.parametrize(
    ("remembering", "head", "stopped"),
    [
        ("a", pb.Head(round=7, hash="7" * 64), False),
        ("aaa", pb.Head(round=7, hash="7" * 64), False),  # one member, three processes
        ("ac", pb.Head(round=7, hash="7" * 64), True),
        ("ac", pb.Head(round=1, hash="another"), True),  # the same round, another entry
        ("abc", None, False),
    ],
)
def test_f_members_cannot_stop_a_run_with_invented_memories(
    tmp_path: Path, remembering: str, head: pb.Head | None, stopped: bool
) -> None:
    async def scenario() -> None:
        first = House(tmp_path)
        first.start()
        answers = await asyncio.gather(*await up_to_the_vote(first))
        await first.stop()
        house = House(tmp_path)
        running = house.start()
        memory = head or answers[0].commit.head

        def remember(request: pb.JoinRequest) -> None:
            request.head.CopyFrom(memory)

        for i, name in enumerate(remembering):
            await Member(house, name, session=str(i)).join("pull", 3, change=remember)
        await settle()
        assert running.done() is stopped
        if stopped:
            with pytest.raises(OstrakonError, match="an old copy was put back"):
                await running
        await house.stop()

    play(scenario())
