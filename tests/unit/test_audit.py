"""An audit finds the first entry that is not as it must be."""

import shutil
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ostrakon.common.choice import Choice
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.server.storage.audit import Broken, audit
from ostrakon.server.storage.ledger import CountedVote, Entry, Genesis
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelKey, ModelStore

ROSTER = ("a", "b", "c", "d", "e")
D = 6
KEPT = 2
ROUNDS = 5


def theta(round: int, side: str = "inner") -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    seed = 2 * round + (side == "outer")
    return np.random.default_rng(seed).standard_normal(D, dtype=np.float32)


def votes(pattern: str) -> tuple[CountedVote, ...]:
    """ "iio": two for inner, one for outer, in roster order."""
    choices: dict[str, Choice] = {"i": "inner", "o": "outer"}
    return tuple(
        CountedVote(worker, choices[letter], 0.5, float("nan")) for worker, letter in zip(ROSTER, pattern, strict=False)
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of five rounds over two terms; outer wins round 3."""
    ledger, store = SqliteLedger(tmp_path / "ledger.sqlite"), ModelStore(tmp_path / "models")
    keys = [store.write(theta(0), None)]
    genesis = Genesis(
        run="6c1b2f0e-7f0c-4f6e-9a53-0d7f2f3f9a10",
        settings={"roster": list(ROSTER), "f": 2},
        parameters=D,
        theta_0=keys[0].digest,
        created="2024-05-01T12:00:00+00:00",
        layout=(("weight", (2, 3)),),
    )
    ledger.create(genesis)
    previous, base = genesis.hash, genesis.theta_0
    for round in range(1, ROUNDS + 1):
        if round in (1, 4):
            ledger.draw_term(f"server {round}")
        choice: Choice = "outer" if round == 3 else "inner"
        winner = theta(round, choice)
        keys.append(store.write(winner, store.read(keys[-1]).running_sum))
        entry = Entry(
            round=round,
            term=1 if round < 4 else 2,
            base=base,
            inner=digest(theta(round, "inner")),
            outer=digest(theta(round, "outer")),
            winner=keys[-1].digest,
            choice=choice,
            votes=votes("iooo" if choice == "outer" else "ioi"),
            inner_cluster=("a", "b", "c"),
            outer_cluster=("d", "e"),
            missing={"e": "no submission"} if round == 2 else {},
            refused={},
            thin=round == 2,
            seconds=0.5,
            running_sum=keys[-1].running_sum,
            previous=previous,
        )
        ledger.try_commit(entry)
        previous, base = entry.hash, entry.winner
    store.prune(keys[-KEPT:])
    ledger.close()
    return tmp_path


def broken(run: Path) -> Broken:
    with pytest.raises(Broken) as found:
        audit(run)
    return found.value


def execute(run: Path, statement: str) -> None:
    connection = sqlite3.connect(run / "ledger.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()


def forge(run: Path, first: int, **changes: object) -> None:
    """Change entry `first` as someone who can write the file would: every hash from there on is made anew."""
    ledger = SqliteLedger(run / "ledger.sqlite")
    entries = {entry.round: entry for entry in ledger.entries()}
    ledger.close()
    entries[first] = replace(entries[first], **changes)  # type: ignore[arg-type]
    connection = sqlite3.connect(run / "ledger.sqlite")
    for round in range(first, ROUNDS + 1):
        if round > first:
            entries[round] = replace(entries[round], previous=entries[round - 1].hash)
        values = (entries[round].hash, entries[round].to_json(), round)
        connection.execute("UPDATE entries SET hash = ?, body = ? WHERE round = ?", values)
    connection.commit()
    connection.close()


def model_file(run: Path, round: int) -> Path:
    ledger = SqliteLedger(run / "ledger.sqlite")
    entry = ledger.entry(round)
    ledger.close()
    assert entry is not None
    return ModelStore(run / "models").path(ModelKey(entry.winner, entry.running_sum))


def test_an_untouched_run_is_intact(run: Path) -> None:
    report = audit(run)
    assert (report.rounds, report.terms, report.models) == (ROUNDS, 2, KEPT)
    assert (report.inner_wins, report.outer_wins, report.thin) == (4, 1, 1)
    assert "5 rounds, terms drawn: 2" in str(report)
    assert report.head in str(report)


def test_a_run_without_rounds_is_intact_while_theta_0_is_there(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    key = store.write(theta(0), None)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create(Genesis("run", {"roster": ["a"], "f": 0}, D, key.digest, "now", (("weight", (D,)),)))
    ledger.close()
    assert audit(tmp_path).rounds == 0
    store.delete(key)
    assert broken(tmp_path).round == 0


def test_a_folder_without_a_run_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OstrakonError, match="give the folder of a run"):
        audit(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_body_is_found(run: Path) -> None:
    execute(run, """UPDATE entries SET body = replace(body, '"thin":true', '"thin":false') WHERE round = 2""")
    assert broken(run).round == 2


def test_a_changed_body_with_its_hash_made_anew_breaks_the_next_entry(run: Path) -> None:
    ledger = SqliteLedger(run / "ledger.sqlite")
    entry = ledger.entry(2)
    ledger.close()
    assert entry is not None
    forged = replace(entry, seconds=0.25)
    execute(run, f"UPDATE entries SET hash = '{forged.hash}', body = '{forged.to_json()}' WHERE round = 2")
    found = broken(run)
    assert found.round == 3
    assert "previous" in found.what


def test_a_changed_genesis_is_found(run: Path) -> None:
    execute(run, "UPDATE genesis SET body = replace(body, '\"f\":2', '\"f\":1')")
    assert broken(run).round == 0


def test_a_row_missing_in_the_middle_is_found(run: Path) -> None:
    execute(run, "DELETE FROM entries WHERE round = 3")
    found = broken(run)
    assert found.round == 3
    assert "missing" in found.what


def test_an_entry_moved_to_another_round_is_found(run: Path) -> None:
    execute(run, "DELETE FROM entries WHERE round = 3")
    execute(run, "UPDATE entries SET round = 3 WHERE round = 4")
    assert broken(run).round == 3


def test_a_term_that_was_never_drawn_is_found(run: Path) -> None:
    execute(run, "DELETE FROM terms WHERE term = 2")
    assert broken(run).round == 4


@pytest.mark.parametrize("position", [-1, -4 * D - 1])
def test_a_flipped_byte_in_a_kept_model_file_is_found(run: Path, position: int) -> None:
    path = model_file(run, 4)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert broken(run).round == 4


def test_a_missing_model_of_the_head_is_found(run: Path) -> None:
    model_file(run, ROUNDS).unlink()
    found = broken(run)
    assert found.round == ROUNDS
    assert "missing" in found.what


def test_the_first_broken_entry_is_the_one_reported(run: Path) -> None:
    forge(run, 2, term=9)
    model_file(run, 4).write_bytes(b"")
    assert broken(run).round == 2


@pytest.mark.parametrize(
    ("round", "changes", "what"),
    [
        (2, {"base": "elsewhere"}, "base is elsewhere"),
        (5, {"term": 1}, "smaller than term 2"),
        (3, {"term": 3}, "never drawn"),
        (2, {"winner": "elsewhere"}, "winner is elsewhere"),
        (2, {"choice": "outer"}, "winner is"),
        (2, {"inner": None}, "inner is None"),
        (2, {"choice": "both"}, "'choice': Input should be 'inner' or 'outer'"),
        (2, {"votes": ()}, "not decided"),
        (2, {"votes": votes("i")}, "not decided"),
        (2, {"votes": votes("io")}, "not decided"),
        (2, {"votes": votes("ooi")}, "won against the vote"),
        (3, {"votes": votes("ooii")}, "won against the vote"),
        (2, {"votes": votes("iii") + votes("i")}, "a voted twice"),
        (2, {"votes": (*votes("ii"), CountedVote("stranger", "inner", 0.0, 1.0))}, "not on the roster"),
        (5, {"revoked": ("stranger",)}, "revoked and not on the roster"),
        (5, {"revoked": ("e",)}, "f = 2 is not below half of the 4 seats"),
        (5, {"revoked": ("e",), "missing": {"e": "revoked"}}, "e is revoked and had a part"),
    ],
)
def test_a_forged_entry_is_found_although_every_hash_fits(
    run: Path, round: int, changes: dict[str, object], what: str
) -> None:
    forge(run, round, **changes)
    found = broken(run)
    assert found.round == round
    assert what in found.what


@pytest.mark.parametrize(
    ("round", "changes"),
    [
        (2, {"votes": votes("iioo")}),  # a tie goes to inner
        (2, {"votes": votes("iii")}),  # the lead exceeds the votes outstanding
        (2, {"votes": (), "outer": None}),  # one candidate
        (3, {"votes": (), "inner": None}),  # inner was not finite
        (2, {"votes": (), "outer": digest(theta(2))}),  # identical candidates
    ],
)
def test_every_lawful_way_to_win_is_accepted(run: Path, round: int, changes: dict[str, object]) -> None:
    forge(run, round, **changes)
    assert audit(run).rounds == ROUNDS


def test_who_is_revoked_once_is_so_for_ever(run: Path) -> None:
    shut_out = {"revoked": ("e",), "missing": {"e": "revoked"}, "outer_cluster": ("d",), "thin": True}
    forge(run, 5, **shut_out)
    assert audit(run).rounds == ROUNDS
    forge(run, 4, **shut_out)
    assert audit(run).rounds == ROUNDS
    forge(run, 5, revoked=(), missing={}, thin=False)
    found = broken(run)
    assert (found.round, found.what) == (5, "e is no longer revoked")


def test_a_cut_off_end_is_not_seen_but_its_model_is_missed(run: Path) -> None:
    execute(run, f"DELETE FROM entries WHERE round > {ROUNDS - KEPT}")
    found = broken(run)
    assert found.round == ROUNDS - KEPT
    assert "missing" in found.what


def test_an_entry_without_a_quorum_of_submissions_is_found(run: Path) -> None:
    forge(run, 4, missing=dict.fromkeys("abc", "silent"), thin=True)
    found = broken(run)
    assert found.round == 4
    assert "3 of 5 workers submitted nothing, more than f = 2" in str(found)


def test_an_audit_changes_no_byte_and_sees_what_is_in_the_log_only(run: Path) -> None:
    ledger = SqliteLedger(run / "ledger.sqlite")
    ledger.draw_term("a server that was killed")
    copy = run / "copy"
    copy.mkdir()
    for end in ("", "-wal"):
        shutil.copy(run / f"ledger.sqlite{end}", copy)
    ledger.close()
    shutil.copytree(run / "models", copy / "models")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert before[copy / "ledger.sqlite-wal"]
    assert audit(copy).terms == 3
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_an_empty_ledger_is_no_run_and_stays_empty(run: Path) -> None:
    (run / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(OstrakonError, match="is empty"):
        audit(run)
    assert (run / "ledger.sqlite").read_bytes() == b""


def test_a_run_that_is_served_can_be_audited_too(run: Path) -> None:
    """The copy is of one moment, though a server writes meanwhile."""
    over = threading.Event()

    def serve() -> None:
        ledger = SqliteLedger(run / "ledger.sqlite")
        while not over.is_set():
            ledger.draw_term("busy")
            time.sleep(0.01)
        ledger.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        for _ in range(5):
            assert audit(run).rounds == ROUNDS
    finally:
        over.set()
        server.join()
