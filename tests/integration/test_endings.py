"""How `make up` ends where not all goes well: its status, its sentence, and its summary tell."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster import PATIENCE, importing, wait_for

NOWHERE = "http://127.0.0.1:9"  # where no proxy listens
SMALL = ("TASK=linear", "WORKERS=3", "BYZANTINE=0", "F=1", "GAMMA=0.5", "RUN=small", "GRACE_FLOOR=3")


def start(folder: Path, *words: str, **how: Any) -> subprocess.Popen[str]:
    """`make up` in a session of its own, as a terminal has one."""
    command = [sys.executable, "-m", "ostrakon.deploy.local", "up", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL} | how
    return subprocess.Popen(command, cwd=folder, text=True, start_new_session=True, **{"env": importing()} | pipes)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and output."""
    said, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said
    return process.returncode, said


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "small" / "summary.json").read_text())
    return found


def rounds(folder: Path) -> int:
    """How many rounds the server has measured."""
    metrics = folder / "runs" / "small" / "metrics.jsonl"
    return metrics.read_text().count('"event": "round"') if metrics.exists() else 0


def hardened() -> None:
    """As a shell's nohup, and more, leave it to their child."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def test_what_was_ignored_before_does_not_stop_a_run_and_what_stops_it_is_its_status(tmp_path: Path) -> None:
    # The proxy of the environment is nobody's who talks to this machine; the last worker listens for the first one.
    words = (*(word for word in SMALL if word != "BYZANTINE=0"), "BYZANTINE=1", "ATTACK=Omn", "ROUNDS=100000")
    proxies = dict.fromkeys(("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "all_proxy"), NOWHERE)
    up = start(tmp_path, *words, preexec_fn=hardened, env=importing() | proxies)
    wait_for(lambda: rounds(tmp_path) >= 2, "two rounds")
    for number in (signal.SIGHUP, signal.SIGINT):
        os.killpg(up.pid, number)  # the terminal's whole group, as it is when that goes
    before = rounds(tmp_path)
    wait_for(lambda: rounds(tmp_path) >= before + 3, "rounds after the terminal has gone")
    up.send_signal(signal.SIGTERM)
    status, said = end(up)
    assert status == 143
    assert "was stopped by SIGTERM; `make up RUN=small` goes on with it" in said
    assert "starting again" not in said
    found = summary(tmp_path)
    assert (found["status"], found["stopped_by"], found["missing"]) == ("stopped", "SIGTERM", {})


def test_an_evaluator_that_cannot_work_is_told_though_the_run_is_completed(tmp_path: Path) -> None:
    (tmp_path / "runs" / "small" / "evaluations.jsonl").mkdir(parents=True)
    status, said = end(start(tmp_path, *SMALL, "ROUNDS=3"))
    assert status == 2
    assert "error: the run is over, but its evaluator ended: " in said.splitlines()[-1]
    found = summary(tmp_path)
    assert (found["status"], found["rounds"], found["stopped_by"]) == ("completed", 3, None)
    assert "evaluations.jsonl is a folder where a file is needed" in found["errors"]["evaluator"]


def test_a_process_that_dies_of_the_same_error_before_the_first_round_ends_the_run_with_it(tmp_path: Path) -> None:
    (tmp_path / "mytask.py").write_text(
        "import multiprocessing\n"
        "from ostrakon.common.tasks.linear import Linear\n"
        "class Mine(Linear):\n"
        "    def worker_data(self, worker, workers, seed):\n"
        "        if worker == 1 and multiprocessing.parent_process() is not None:\n"
        "            raise RuntimeError(f'{id(object())} is too odd')\n"
        "        return super().worker_data(worker, workers, seed)\n"
    )
    words = [word for word in SMALL if not word.startswith("TASK=")]
    status, said = end(start(tmp_path, *words, "TASK=mytask:Mine", "ROUNDS=3"))
    assert status == 2
    last = said.splitlines()[-1]
    assert last.startswith("error: w01 died 3 times of the same error before a round was committed: RuntimeError: ")
    assert "is too odd (mytask.py, line 6, in worker_data)" in last
