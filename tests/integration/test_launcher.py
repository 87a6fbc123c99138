"""`ostrakon up` as a user runs it: from an empty folder to a summary, interrupted, killed, resumed, ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ostrakon.deploy.certificates import revoke
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from tests.harness.cluster import PATIENCE, importing, wait_for
from tests.harness.command import ostrakon

SMALL = ("TASK=linear", "WORKERS=3", "BYZANTINE=1", "F=1", "GAMMA=0.5", "RUN=small", "GRACE_FLOOR=3")


class Launcher:
    """`python -m ostrakon` in a folder of its own, its output in a file."""

    def __init__(self, folder: Path, command: str, *words: str) -> None:
        self.output = folder / "output.txt"
        with self.output.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ostrakon", command, *words],
                cwd=folder,
                env=importing(),
                stdout=sink,
                stderr=sink,
                stdin=subprocess.DEVNULL,
            )

    def wait(self) -> int:
        return self.process.wait(2 * PATIENCE)  # a whole run

    @property
    def text(self) -> str:
        return self.output.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def committed(folder: Path) -> int:
    ledger_file = folder / "runs" / "small" / "ledger.sqlite"
    if not ledger_file.exists():
        return 0
    ledger = SqliteLedger(ledger_file)
    try:
        head = ledger.head()
        return 0 if head is None else head.round
    finally:
        ledger.close()


def run(folder: Path, command: str, *words: str) -> Launcher:
    launcher = Launcher(folder, command, *words)
    launcher.wait()
    return launcher


def stopped(folder: Path) -> tuple[str, str]:
    """What the summary says of the run's end."""
    summary = json.loads((folder / "runs" / "small" / "summary.json").read_text())
    return summary["status"], summary["stopped_by"]


def children(folder: Path) -> list[int]:
    """Processes that a launcher in this folder has started: they hold the run's lock file open."""
    lock = str(folder / "runs" / "small" / "processes.lock")
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                files = [os.readlink(link) for link in (process / "fd").iterdir()]
            except OSError:
                continue
            if lock in files:
                found.append(int(process.name))
    return found


def test_a_run_ends_with_its_summary_curves_and_models_and_goes_on_where_it_is_moved(folder: Path) -> None:
    words = ("TASK=linear", "WORKERS=4", "BYZANTINE=1", "F=1", "GAMMA=0.5", "RUN=small", "GRACE_FLOOR=3")
    up = run(folder, "up", *words, "ROUNDS=15")
    assert up.process.returncode == 0, up.text
    home = folder / "runs" / "small"
    summary = json.loads((home / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["rounds"] == 15
    assert summary["accuracy"] > 0.3
    assert summary["accuracy_of_average"] > 0.1
    assert summary["wins"]["inner"] + summary["wins"]["outer"] == 15
    assert 0 < summary["seconds_to_first_commit"] < summary["seconds"]
    assert summary["bytes_per_worker_round"] > 0
    assert summary["server_peak_bytes"] > 0
    assert (home / "curves.png").read_bytes().startswith(b"\x89PNG")
    for name in ("last.safetensors", "average.safetensors", "settings.toml", "metrics.jsonl"):
        assert (home / name).exists()

    again = ostrakon(folder, "up", *words, "ROUNDS=15")
    assert again.status == 0, again.wrong
    assert "nothing is left to do" in again.said
    other = ostrakon(folder, "up", "RUN=small", "GAMMA=0.25")
    assert other.status == 2
    assert "GAMMA=0.5, now GAMMA=0.25" in other.wrong

    # The folder is the run, wherever it lies and whatever it is called; who was revoked is not waited for.
    moved = folder / "elsewhere" / "runs" / "renamed"
    moved.parent.mkdir(parents=True)
    home.rename(moved)
    revoke(moved / "certificates", "worker", "w00")
    longer = ostrakon(folder / "elsewhere", "up", "RUN=renamed", "ROUNDS=20")
    assert longer.status == 0, longer.wrong
    assert "run renamed: Mean2P" in longer.said
    assert "revoked" in longer.said
    summary = json.loads((moved / "summary.json").read_text())
    assert (summary["rounds"], summary["revoked"], summary["missing"]) == (20, ["w00"], {})
    assert not home.exists()


def test_ctrl_c_and_kill_9_lose_nothing_and_leave_nobody_behind(folder: Path) -> None:
    words = (*SMALL, "ROUNDS=100000")
    up = Launcher(folder, "up", *words)
    wait_for(lambda: committed(folder) >= 3, "three rounds")
    second = run(folder, "up", *words)
    assert second.process.returncode == 2
    assert f"process {up.process.pid}" in second.text
    status = ostrakon(folder, "status", "RUN=small")
    assert status.status == 0
    assert "won so far" in status.said

    # Every process killed with -9 is started again; the launcher killed with -9 takes the others along.
    for victim in children(folder):
        os.kill(victim, signal.SIGKILL)
    before = committed(folder)
    wait_for(lambda: committed(folder) >= before + 3, "rounds after every process was killed")
    up.process.kill()
    up.wait()
    wait_for(lambda: not children(folder), "the end of the processes whose launcher was killed")

    before = committed(folder)
    up = Launcher(folder, "up", *words)
    wait_for(lambda: committed(folder) >= before + 3, "rounds after the launcher was killed")
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 130
    assert stopped(folder) == ("stopped", "SIGINT")
    wait_for(lambda: not children(folder), "the end of all processes after Ctrl-C")
    audit(folder / "runs" / "small")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("RUEL=Avg",), "did you mean RULE?"),
        (("F=5",), "f must be below n/2, so at most 4"),
    ],
)
def test_what_cannot_be_run_is_named_and_leaves_nothing_behind(
    folder: Path, words: tuple[str, ...], expected: str
) -> None:
    up = ostrakon(folder, "up", *words)
    assert up.status == 2, up.said
    assert expected in up.wrong
    assert not (folder / "runs").exists()


def test_a_mixed_team_from_a_file_is_refused_by_name_and_its_omniscient_have_their_adversary(folder: Path) -> None:
    (folder / "team.toml").write_text(
        'task = "linear"\nworkers = 7\nf = 3\ngamma = 0.5\nrounds = 12\ngrace_floor = 1.0\n'
        '[[team]]\nattack = "Omn@5"\n[[team]]\nfault = "nan@2"\n[[team]]\nfault = "crash-before-vote@10"\n'
    )
    up = ostrakon(folder, "up", "SETTINGS=team.toml", "RUN=small")
    assert up.status == 0, up.said + up.wrong
    assert "a mixed team" in up.said
    summary = json.loads((folder / "runs" / "small" / "summary.json").read_text())
    assert summary["rounds"] == 12
    assert "not finite" in summary["refused"]["w01"]
    assert summary["missing"]["w01"]["no submission"] > 3
    assert summary["refused"].keys() <= {"w01", "w02"}
    assert "w02 was killed by SIGKILL, starting again" in up.said
    assert "w00" not in summary["missing"]  # it was told what to send in every round
    assert "meeting" in (folder / "runs" / "small" / "logs" / "adversary.log").read_text()
    assert not children(folder)
