"""The ledger decides each round once, for the holder of the largest term, and forgets nothing."""

import math
import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.processes import start_fork_server
from ostrakon.server.storage.ledger import Already, Committed, Entry, Fenced, Genesis, Unknown
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from tests.harness.ledger_entries import GENESIS, following


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(path)
    ledger.create(GENESIS)
    yield ledger
    ledger.close()


def test_an_entry_survives_json_with_losses_that_are_not_finite(ledger: SqliteLedger) -> None:
    entry = following(ledger, 1)
    text = entry.to_json()
    again = Entry.from_json(text)
    assert '"inner_loss":"nan"' in text
    assert '"outer_loss":"-inf"' in text
    assert " " not in text.replace("no vote", "").replace("wrong base", "")
    assert again.to_json() == text
    assert again.hash == entry.hash
    assert math.isnan(again.votes[1].inner_loss)
    assert replace(again, votes=()) == replace(entry, votes=())


def test_a_genesis_survives_json() -> None:
    assert Genesis.from_json(GENESIS.to_json()) == GENESIS


def test_every_field_of_an_entry_changes_its_hash(ledger: SqliteLedger) -> None:
    entry = following(ledger, 1)
    variants = [
        replace(entry, term=2),
        replace(entry, outer=None),
        replace(entry, votes=entry.votes[:1]),
        replace(entry, missing={}),
        replace(entry, refused={"c": {"wrong base": 3}}),
        replace(entry, thin=True),
        replace(entry, seconds=1.25),
    ]
    assert len({variant.hash for variant in [entry, *variants]}) == 8


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"round":1}', "null"])
def test_text_that_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an entry"):
        Entry.from_json(text)


def test_a_run_begins_once(ledger: SqliteLedger) -> None:
    with pytest.raises(OstrakonError, match=GENESIS.run):
        ledger.create(replace(GENESIS, run="another"))
    assert ledger.genesis() == GENESIS


def test_nothing_is_committed_before_a_genesis() -> None:
    ledger = SqliteLedger(":memory:")
    ledger.draw_term("one")
    reference = SqliteLedger(":memory:")
    reference.create(GENESIS)
    with pytest.raises(ValueError, match="no genesis"):
        ledger.try_commit(following(reference, 1))


def test_terms_only_grow_and_keep_their_holders(ledger: SqliteLedger, path: Path) -> None:
    other = SqliteLedger(path)
    assert [ledger.draw_term("one"), other.draw_term("two"), ledger.draw_term("one")] == [1, 2, 3]
    assert other.terms() == {1: "one", 2: "two", 3: "one"}
    other.close()


def test_a_committed_round_is_the_head(ledger: SqliteLedger) -> None:
    ledger.draw_term("one")
    assert ledger.head() is None
    assert ledger.entry(1) is None
    first = following(ledger, 1)
    assert ledger.try_commit(first) == Committed()
    second = following(ledger, 1)
    assert ledger.try_commit(second) == Committed()
    assert hash_of(ledger.head()) == second.hash
    assert hash_of(ledger.entry(1)) == first.hash
    assert [entry.hash for entry in ledger.entries()] == [first.hash, second.hash]


def test_a_larger_term_fences_the_server_before_it(ledger: SqliteLedger) -> None:
    ledger.draw_term("one")
    entry = following(ledger, 1)
    ledger.draw_term("two")
    assert ledger.try_commit(entry) == Fenced(2)
    assert ledger.head() is None


def test_a_term_that_was_never_drawn_is_fenced(ledger: SqliteLedger) -> None:
    ledger.draw_term("one")
    assert ledger.try_commit(following(ledger, 5)) == Fenced(1)


def test_a_committed_round_stays_what_it_is(ledger: SqliteLedger) -> None:
    ledger.draw_term("one")
    first, rival = following(ledger, 1, "first"), following(ledger, 1, "rival")
    ledger.try_commit(first)
    outcome = ledger.try_commit(rival)
    assert isinstance(outcome, Already)
    assert outcome.entry.hash == first.hash
    assert hash_of(ledger.head()) == first.hash


@pytest.mark.parametrize("change", [{"round": 3}, {"base": "elsewhere"}, {"previous": "elsewhere"}])
def test_an_entry_that_does_not_follow_the_head_is_a_programming_error(
    ledger: SqliteLedger, change: dict[str, object]
) -> None:
    ledger.draw_term("one")
    ledger.try_commit(following(ledger, 1))
    with pytest.raises(ValueError, match="does not follow"):
        ledger.try_commit(replace(following(ledger, 1), **change))  # type: ignore[arg-type]
    assert ledger.try_commit(following(ledger, 1)) == Committed()  # the transaction is over


def test_of_two_servers_that_race_for_a_round_one_commits_it(ledger: SqliteLedger, path: Path) -> None:
    ledger.draw_term("both")
    rivals = [SqliteLedger(path), SqliteLedger(path)]
    for _ in range(10):
        entries = [following(ledger, 1, name) for name in ("left", "right")]
        barrier = threading.Barrier(2)
        outcomes: dict[int, object] = {}

        def commit(
            side: int,
            entries: list[Entry] = entries,
            barrier: threading.Barrier = barrier,
            outcomes: dict[int, object] = outcomes,
        ) -> None:
            barrier.wait()
            outcomes[side] = rivals[side].try_commit(entries[side])

        threads = [threading.Thread(target=commit, args=(side,)) for side in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winner = 0 if outcomes[0] == Committed() else 1
        lost = outcomes[1 - winner]
        assert outcomes[winner] == Committed()
        assert isinstance(lost, Already)
        assert lost.entry.hash == hash_of(ledger.head()) == entries[winner].hash
    for rival in rivals:
        rival.close()


def test_a_ledger_on_a_full_disk_says_unknown_and_keeps_what_it_had(ledger: SqliteLedger, path: Path) -> None:
    ledger.draw_term("one")
    first = following(ledger, 1)
    ledger.try_commit(first)
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    entry = replace(following(ledger, 1), missing={"c": "no vote " * 10_000})
    outcome = ledger.try_commit(entry)
    assert isinstance(outcome, Unknown)
    assert "full" in outcome.reason
    assert ledger.entry(2) is None  # read back: it is not there
    ledger._connection.execute("PRAGMA max_page_count = 1000000")
    assert ledger.try_commit(entry) == Committed()


def test_a_ledger_that_another_writer_holds_says_unknown(ledger: SqliteLedger, path: Path) -> None:
    ledger.draw_term("one")
    entry = following(ledger, 1)
    ledger._connection.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    outcome = ledger.try_commit(entry)
    assert isinstance(outcome, Unknown)
    assert "locked" in outcome.reason
    with pytest.raises(OstrakonError, match=r"is held by another process, .*end it \(kill -9\)"):
        ledger.draw_term("two")
    other.execute("ROLLBACK")
    other.close()
    assert ledger.try_commit(entry) == Committed()


def test_a_read_only_ledger_says_unknown_and_draws_no_term(ledger: SqliteLedger) -> None:
    ledger.draw_term("one")
    ledger._connection.execute("PRAGMA query_only = ON")
    assert isinstance(ledger.try_commit(following(ledger, 1)), Unknown)
    with pytest.raises(OstrakonError, match="cannot be used"):
        ledger.draw_term("two")


def test_a_reopened_ledger_keeps_everything(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.create(GENESIS)
    ledger.draw_term("one")
    entries = []
    for _ in range(3):
        entries.append(following(ledger, 1))
        ledger.try_commit(entries[-1])
    ledger.close()
    again = SqliteLedger(path)
    assert again.genesis() == GENESIS
    assert again.terms() == {1: "one"}
    assert [entry.hash for entry in again.entries()] == [entry.hash for entry in entries]
    assert again.draw_term("two") == 2
    again.close()


def test_what_was_committed_is_in_the_file_while_the_server_lives(ledger: SqliteLedger, path: Path) -> None:
    ledger.draw_term("one")
    entry = following(ledger, 1)
    ledger.try_commit(entry)
    other = SqliteLedger(path)  # the first connection has not been closed, as after kill -9
    assert hash_of(other.head()) == entry.hash
    other.close()


def test_commits_are_durable_when_they_return(ledger: SqliteLedger) -> None:
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_is_no_database_is_refused_by_name(path: Path) -> None:
    path.write_bytes(b"round,winner\n" * 500)
    with pytest.raises(OstrakonError, match=r"ledger\.sqlite is damaged"):
        SqliteLedger(path)


def test_a_ledger_cut_off_in_the_middle_is_refused(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.create(GENESIS)
    ledger.draw_term("one")
    for _ in range(20):
        ledger.try_commit(following(ledger, 1))
    ledger.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(OstrakonError, match=r"ledger\.sqlite is damaged.*backup"):
        SqliteLedger(path)


def test_another_programs_database_is_refused(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE cookies (name TEXT)")
    other.close()
    with pytest.raises(OstrakonError, match="another program"):
        SqliteLedger(path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OstrakonError, match="folder must exist"):
        SqliteLedger(tmp_path / "nowhere" / "ledger.sqlite")


def test_an_entry_in_another_rounds_place_is_damage(ledger: SqliteLedger) -> None:
    ledger.try_commit(following(ledger, ledger.draw_term("one")))
    ledger._connection.execute("UPDATE entries SET round = 2")
    with pytest.raises(OstrakonError, match=r"entry 2: its row holds round 1.*backup"):
        ledger.entry(2)


def test_a_changed_row_is_never_read_as_an_entry(ledger: SqliteLedger) -> None:
    ledger.draw_term("one")
    ledger.try_commit(following(ledger, 1))
    ledger._connection.execute("UPDATE entries SET body = replace(body, 'inner-1-x', 'inner-1-y')")
    with pytest.raises(OstrakonError, match="entry 1"):
        ledger.head()


def hash_of(entry: Entry | None) -> str | None:
    return None if entry is None else entry.hash


def open_each(files: list[Path], together: Any, failures: Any) -> None:
    """Open new ledgers at the same moment as other processes do."""
    for file in files:
        together.wait()
        try:
            SqliteLedger(file).close()
        except OstrakonError as error:
            failures.put(str(error))


@pytest.mark.slow
def test_several_processes_may_open_a_new_ledger_at_the_same_moment(tmp_path: Path) -> None:
    start_fork_server()  # the one that later tests fork from too
    context = multiprocessing.get_context("forkserver")
    together, failures = context.Barrier(3), context.Queue()
    files = [tmp_path / f"{number}.sqlite" for number in range(60)]
    processes = [context.Process(target=open_each, args=(files, together, failures)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert failures.empty()
