"""What is committed is announced, and nothing else: ledgers that answer late, unclearly or not at all."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.server.core.commit import make_durable, unless_taken_over
from ostrakon.server.core.round import Phase
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.ledger import Entry, Ledger, Tried, Unknown
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelStore
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.house import House, Member, pulls, submit_all, up_to_the_vote
from tests.harness.ledger_entries import GENESIS, following
from tests.harness.scenario import cancel, inline, play, settle


class Wrapped:
    """A ledger around the real one; `try_commit` is what each test's ledger does differently."""

    def __init__(self, real: Ledger) -> None:
        self.real = real
        self.offered: list[Entry] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def try_commit(self, entry: Entry) -> Tried:
        self.offered.append(entry)
        return self.real.try_commit(entry)


def test_nobody_is_told_before_the_ledger_has_said_that_the_entry_is_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        entered, gate = asyncio.Event(), asyncio.Event()

        async def offload(function: Callable[..., Any], *arguments: Any) -> Any:
            if function.__name__ != "try_commit":
                return function(*arguments)
            entered.set()
            await gate.wait()
            outcome = function(*arguments)
            assert not any(task.done() for task in waiting)
            return outcome

        house = House(tmp_path, offload=offload)
        house.start()
        watcher = Member(house, "a")
        await watcher.join("pull", 3)
        waiting: list[asyncio.Task[Any]] = []
        waiting += await up_to_the_vote(house)
        await entered.wait()
        late = Member(house, "c", session="session of c")
        await late.join("pull", 3)
        late.round = 1
        waiting += [asyncio.create_task(call) for call in (late.vote(), late.candidates(), late.receive())]
        observer = house.transport("watcher", "observer")
        stamp = watcher.stamp()
        stamp.term = house.coordinator.term

        async def observe() -> list[pb.ModelPart]:
            return [part async for part in observer.broadcast(pb.BroadcastRequest(stamp=stamp, after=1))]

        waiting.append(asyncio.create_task(observe()))
        await settle()
        assert not any(task.done() for task in waiting)
        assert not house.status().HasField("committed") and house.status().stamp.round == 1
        gate.set()
        await asyncio.gather(*waiting)
        await house.stop()

    play(scenario())


class CommitsAndSaysUnknown(Wrapped):
    """The answer of each round's first commit is lost."""

    def try_commit(self, entry: Entry) -> Tried:
        super().try_commit(entry)
        return Unknown("the answer was lost")


class LosesTheFirst(Wrapped):
    """Every round's first two offers are lost, and it cannot be said whether they were."""

    def try_commit(self, entry: Entry) -> Tried:
        if [one.round for one in self.offered].count(entry.round) < 2:
            self.offered.append(entry)
            return Unknown("the request was lost")
        return super().try_commit(entry)


@pytest.mark.parametrize(("ledger", "offers"), [(CommitsAndSaysUnknown, 1), (LosesTheFirst, 3)])
def test_an_unknown_outcome_is_read_back_and_never_decided_again(
    tmp_path: Path, ledger: type[Wrapped], offers: int
) -> None:
    async def scenario() -> None:
        house = House(tmp_path, ledger=ledger)
        assert await house.run(*pulls(house)) == ["completed"] * 4
        for round in (1, 2, 3):
            entry = house.ledger.entry(round)
            assert entry is not None
            assert [one.hash for one in house.ledger.offered if one.round == round] == [entry.hash] * offers
        await house.stop()

    play(scenario())
    assert audit(tmp_path).rounds == 3


class Silent(Wrapped):
    """Loses every offer, or keeps it and cannot be read any more."""

    keeps = False

    def try_commit(self, entry: Entry) -> Tried:
        self.offered.append(entry)
        if self.keeps:
            self.real.try_commit(entry)
        return Unknown("no answer")

    def entry(self, round: int) -> Entry | None:
        if self.offered and self.keeps:
            raise OstrakonError("the ledger cannot be read")
        return self.real.entry(round)


class KeepsInSilence(Silent):
    keeps = True


@pytest.mark.parametrize(("ledger", "committed"), [(Silent, 0), (KeepsInSilence, 1)])
def test_a_round_whose_outcome_stays_unknown_is_announced_to_nobody_and_found_by_the_next_server(
    tmp_path: Path, ledger: type[Silent], committed: int
) -> None:
    async def scenario() -> None:
        house = House(tmp_path, ledger=ledger)
        running = house.start()
        votes = await up_to_the_vote(house)
        with pytest.raises(OstrakonError, match=r"round 1 could not be committed \(no answer\)"):
            await running
        await settle()
        assert not any(vote.done() for vote in votes)
        assert len({entry.hash for entry in house.ledger.offered}) == 1
        assert house.coordinator.head_round == 0
        await cancel(*votes)
        await house.stop()
        again = House(tmp_path)
        assert again.coordinator.head_round == committed
        assert await again.run(*pulls(again)) == ["completed"] * 4
        await again.stop()

    play(scenario())
    assert audit(tmp_path).rounds == 3


@pytest.mark.parametrize("rule", ["Mean2P", "Mean1P"])
def test_workers_that_had_done_their_part_in_an_uncommitted_round_do_it_again_for_the_next_server(
    tmp_path: Path, rule: str
) -> None:
    async def scenario() -> None:
        house = House(tmp_path, ledger=Silent, rule=rule)
        parts = [asyncio.create_task(session.take_part()) for session in pulls(house)]
        with pytest.raises(OstrakonError, match="round 1 could not be committed"):
            await house.start()
        await settle()  # with one phase everybody waits for the model of round 2 now
        await house.stop()
        again = House(tmp_path, rule=rule, port=house.port)
        assert await again.start() == "completed"
        assert await asyncio.gather(*parts) == ["completed"] * 3
        await again.stop()

    play(scenario())
    assert audit(tmp_path).rounds == 3


def test_on_a_full_disk_the_run_ends_with_a_sentence_and_nothing_is_announced(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=60)
        ledger: Any = house.ledger
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        sessions = pulls(house)
        parts = [asyncio.create_task(session.take_part()) for session in sessions]
        with pytest.raises(OstrakonError, match=r"could not be committed .*full.*free space"):
            await house.start()
        await settle()
        head = house.ledger.head()
        assert head is not None
        assert max(session.rounds.exchange.head.round for session in sessions) == head.round
        assert not any(part.done() for part in parts)
        await house.stop()
        again = House(tmp_path, rounds=60, port=house.port)
        assert await again.start() == "completed"
        assert await asyncio.gather(*parts) == ["completed"] * 3
        await again.stop()

    play(scenario())
    assert audit(tmp_path).rounds == 60


def test_a_server_whose_file_was_swept_away_by_its_successor_says_that_it_was_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        running = house.start()
        members = await house.members()

        def swept(*_: object) -> None:
            house.ledger.draw_term("successor")
            raise OstrakonError("no such file")

        monkeypatch.setattr(ModelStore, "write", swept)
        await submit_all(members)
        with pytest.raises(OstrakonError, match="larger term 2 has taken over"):
            await running
        await house.stop()

    play(scenario())


def test_a_model_that_cannot_be_written_ends_the_run_while_the_vote_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        running = house.start()
        members = await house.members()

        def full(*_: object) -> None:
            raise OstrakonError("no space left")

        monkeypatch.setattr(ModelStore, "write", full)
        await submit_all(members)
        with pytest.raises(OstrakonError, match="no space left"):
            await running
        assert house.coordinator.round.phase is Phase.VOTING
        assert house.ledger.head() is None
        await house.stop()

    play(scenario())


def test_an_entry_that_is_there_already_is_committed_and_another_of_its_round_ends_the_server(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create(GENESIS)
    term = ledger.draw_term("test")
    entry, other = following(ledger, term), following(ledger, term, "other")
    for _ in range(2):  # the second time, as after an answer that was lost
        asyncio.run(make_durable(entry, ledger, inline))
    with pytest.raises(OstrakonError, match=f"round 1 is committed already, by the server of term {term}"):
        asyncio.run(make_durable(other, ledger, inline))
    assert [one.hash for one in ledger.entries()] == [entry.hash]
    ledger.close()


def test_what_would_harm_a_successor_is_not_done_once_there_is_one(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    term, done = ledger.draw_term("first"), list[str]()
    unless_taken_over(ledger, term, lambda: done.append("before"))
    ledger.draw_term("second")
    with pytest.raises(OstrakonError, match=f"larger term {term + 1} has taken over this run from term {term}"):
        unless_taken_over(ledger, term, lambda: done.append("after"))
    assert done == ["before"]
    ledger.close()
