"""The summary of a run is drawn from what survives kill -9, in whatever state that is."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ostrakon.common.errors import OstrakonError
from ostrakon.deploy import plots, report
from ostrakon.deploy.ending import ENDING, Ending, keep_ending
from ostrakon.deploy.record import read_record
from ostrakon.server.storage.ledger import Committed, CountedVote, Entry, Genesis
from ostrakon.server.storage.ledger.sqlite import SqliteLedger

ROSTER = ["w00", "w01", "w02"]
PNG = b"\x89PNG\r\n\x1a\n"


def commit(
    folder: Path, choices: str, missing: dict[int, dict[str, str]], refused: dict[int, dict[str, dict[str, int]]]
) -> None:
    """A ledger with one round for each letter of `choices`: i, Inner won; o, Outer won."""
    identity = {"task": "glyphs", "rule": "Mean2P", "roster": ROSTER, "f": 1, "gamma": 0.1, "quorum": "synchronous"}
    ledger = SqliteLedger(folder / "ledger.sqlite")
    genesis = Genesis("a-run", identity, 4, "theta 0", "2026-01-01T00:00:00+00:00", (("weight", (4,)),))
    ledger.create(genesis)
    term = ledger.draw_term("test")
    base, previous = genesis.theta_0, genesis.hash
    for round, letter in enumerate(choices, start=1):
        winner = f"theta {round}"
        entry = Entry(
            round=round,
            term=term,
            base=base,
            inner=winner if letter == "i" else "lost",
            outer=winner if letter == "o" else "lost",
            winner=winner,
            choice="inner" if letter == "i" else "outer",
            votes=tuple(CountedVote(worker, "inner" if letter == "i" else "outer", 1.0, 2.0) for worker in ROSTER),
            inner_cluster=("w01", "w02"),
            outer_cluster=("w00",),
            missing=missing.get(round, {}),
            refused=refused.get(round, {}),
            thin=False,
            seconds=0.5,
            running_sum="sum",
            previous=previous,
        )
        assert ledger.try_commit(entry) == Committed()
        base, previous = winner, entry.hash
    ledger.close()


def started() -> dict[str, Any]:
    return {"event": "started", "term": 1, "time": 0.0}


def round_line(round: int, elapsed: float) -> dict[str, Any]:
    measured = {"seconds": 0.5, "winner": "inner", "votes": [3, 0], "reported_loss": 1.0, "peak_bytes": 900}
    return {"event": "round", "round": round, "elapsed": elapsed, "bytes_received": 300, "bytes_sent": 600, **measured}


def finished(status: str, round: int, seconds: float, peak: int = 1000) -> dict[str, Any]:
    ended = {"event": "finished", "status": status, "round": round, "seconds": seconds, "peak_bytes": peak}
    return {**ended, "seconds_to_first_commit": 1.0, "refused": [["", "wrong role", 2]]}


def write_lines(path: Path, lines: list[dict[str, Any]], torn: str = "") -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of four rounds that completed."""
    commit(
        tmp_path,
        "iioi",
        missing={2: {"w02": "late"}, 3: {"w02": "late", "w01": "gone"}},
        refused={1: {"w00": {"not finite": 2}}, 4: {"w00": {"not finite": 1, "wrong base": 1}}},
    )
    write_lines(
        tmp_path / "metrics.jsonl",
        [started(), *(round_line(round, 1.0 + 0.5 * round) for round in range(1, 5)), finished("completed", 4, 4.0)],
    )
    write_lines(
        tmp_path / "evaluations.jsonl",
        [
            {"round": 0, "accuracy": 0.1, "loss": 4.0},
            {"round": 4, "accuracy": 0.75, "loss": 1.5},
            {"round": 4, "accuracy_of_average": 0.5, "loss_of_average": 2.0},
        ],
    )
    return tmp_path


def test_the_summary_holds_the_figures_of_the_run(folder: Path) -> None:
    report.write(folder)
    assert json.loads((folder / "summary.json").read_text()) == {
        "status": "completed",
        "stopped_by": None,
        "rounds": 4,
        "accuracy": 0.75,
        "accuracy_round": 4,
        "accuracy_of_average": 0.5,
        "accuracy_of_average_round": 4,
        "measures": {"accuracy": 0.75},
        "measures_of_average": {"accuracy": 0.5},
        "shares": ["accuracy"],
        "seconds": 4.0,
        "rounds_per_second": 1.0,
        "seconds_to_first_commit": 1.5,
        "bytes_per_worker_round": 300.0,
        "wins": {"inner": 3, "outer": 1},
        "without_a_vote": 0,
        "refused": {"": {"wrong role": 2}, "w00": {"not finite": 3, "wrong base": 1}},
        "missing": {"w01": {"gone": 1}, "w02": {"late": 2}},
        "revoked": [],
        "server_peak_bytes": 1000,
        "errors": {},
    }
    assert (folder / "curves.png").read_bytes().startswith(PNG)


def test_a_killed_run_is_interrupted_and_a_torn_line_is_left_out(folder: Path) -> None:
    write_lines(folder / "metrics.jsonl", [started(), round_line(1, 2.0)], torn='{"event": "round", "rou')
    write_lines(folder / "evaluations.jsonl", [{"round": 0, "accuracy": 0.1, "loss": 4.0}], torn='{"round": 4, "acc')
    summary = report.write(folder)
    assert (summary.status, summary.rounds, summary.accuracy) == ("interrupted", 4, 0.1)
    assert (summary.accuracy_of_average, summary.server_peak_bytes) == (None, 900)


def test_an_accuracy_is_shown_with_the_round_it_was_measured_in(folder: Path) -> None:
    write_lines(folder / "evaluations.jsonl", [{"round": 2, "accuracy": 0.5, "loss": 4.0}])
    assert "50.0 % (round 2)" in shown(folder)
    write_lines(folder / "evaluations.jsonl", [{"round": 3, "accuracy_of_average": 0.25, "loss_of_average": 2.0}])
    assert "25.0 % (rounds 1 to 3)" in shown(folder)


def test_what_the_launcher_saw_is_in_every_summary(folder: Path) -> None:
    write_lines(folder / "metrics.jsonl", [started(), round_line(1, 2.0)])  # its server had to be killed
    keep_ending(folder, Ending("SIGTERM", {"evaluator": "no [room] for evaluations.jsonl"}))
    summary = report.write(folder)
    assert (summary.status, summary.stopped_by) == ("stopped", "SIGTERM")
    assert json.loads((folder / "summary.json").read_text())["errors"] == summary.errors
    assert "small: stopped by SIGTERM" in shown(folder).replace(folder.name, "small")
    assert "no [room] for evaluations.jsonl" in shown(folder)
    for damage in ("", "[]", "{", '{"errors": 3, "stopped_by": 4}'):
        (folder / ENDING).write_text(damage)
        assert report.summarise(read_record(folder)).status == "interrupted"


def shown(folder: Path) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table(folder.name, report.summarise(read_record(folder))))
    return console.export_text()


def test_time_adds_up_over_the_server_processes_of_a_run(folder: Path) -> None:
    first = [started(), round_line(1, 2.0), round_line(2, 3.0)]  # killed
    second = [started(), round_line(3, 1.0), finished("stopped", 3, 5.0, peak=3000)]
    third = [started(), round_line(4, 1.0), finished("completed", 4, 2.0, peak=2000)]
    write_lines(folder / "metrics.jsonl", [*first, *second, *third])
    summary = report.write(folder)
    assert summary.seconds == 3.0 + 5.0 + 2.0
    assert (summary.status, summary.seconds_to_first_commit, summary.server_peak_bytes) == ("completed", 2.0, 3000)


def test_a_run_that_is_resumed_and_killed_after_its_end_is_interrupted(folder: Path) -> None:
    lines = [started(), round_line(1, 2.0), finished("completed", 1, 2.0), started()]
    write_lines(folder / "metrics.jsonl", lines)
    assert report.write(folder).status == "interrupted"


def test_the_last_measurement_of_a_round_counts(folder: Path) -> None:
    rounds = (0, 2, 4, 2)
    lines = [{"round": round, "accuracy": index / 10, "loss": 1.0} for index, round in enumerate(rounds)]
    write_lines(folder / "evaluations.jsonl", lines)
    measured = read_record(folder).measurements
    assert [(one.round, one.value) for one in measured] == [(0, 0.0), (2, 0.3), (4, 0.2)]


def test_a_diverged_run_whose_loss_is_not_finite_is_reported_and_drawn(folder: Path) -> None:
    write_lines(folder / "metrics.jsonl", [started(), round_line(1, 2.0), finished("diverged", 4, 2.0)])
    write_lines(folder / "evaluations.jsonl", [{"round": 4, "accuracy": 0.0, "loss": None}])
    assert report.write(folder).status == "diverged"
    assert (folder / "curves.png").read_bytes().startswith(PNG)


def test_a_run_that_has_committed_nothing_yet_has_a_summary(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "ledger.sqlite").close()
    summary = report.write(tmp_path)
    assert (summary.status, summary.rounds, summary.rounds_per_second) == ("interrupted", 0, None)


def test_a_folder_without_a_ledger_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OstrakonError, match="holds no ledger"):
        report.write(tmp_path)


def test_reading_a_run_writes_nothing_into_its_folder(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in (folder, *before)}
    read_record(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert {path: path.stat().st_mtime_ns for path in (folder, *before)} == times


def test_a_damaged_ledger_is_named_where_it_lies(folder: Path) -> None:
    path = folder / "ledger.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(OstrakonError, match=f"^ledger {path} "):
        read_record(folder)


def test_several_runs_are_compared_in_one_picture(folder: Path) -> None:
    assert plots.compare([read_record(folder), read_record(folder)]).startswith(PNG)
