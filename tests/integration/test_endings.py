"""How `ostrakon up` ends where not all goes well: its status, its sentence, and its summary tell."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness.cluster import PATIENCE, importing, wait_for
from tests.harness.command import ostrakon
from tests.harness.shell import without
from tests.integration.test_launcher import children

NOWHERE = "http://127.0.0.1:9"  # where no proxy listens
SMALL = ("TASK=linear", "WORKERS=3", "BYZANTINE=0", "F=1", "GAMMA=0.5", "RUN=small", "GRACE_FLOOR=3")


def up(*words: str) -> list[str]:
    return [sys.executable, "-m", "ostrakon", "up", *words]


def start(folder: Path, command: list[str], **how: Any) -> subprocess.Popen[str]:
    """A command in a session of its own, as a terminal has one."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "env": importing()}
    return subprocess.Popen(command, cwd=folder, text=True, start_new_session=True, **pipes | how)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status, and what it says that is wrong."""
    said, wrong = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in f"{said}{wrong}"
    return process.returncode, wrong


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "small" / "summary.json").read_text())
    return found


def rounds(folder: Path) -> int:
    """How many rounds the server has measured."""
    metrics = folder / "runs" / "small" / "metrics.jsonl"
    return metrics.read_text().count('"event": "round"') if metrics.exists() else 0


def test_a_run_goes_on_without_terminal_streams_or_room_for_sockets_and_beside_a_proxy(tmp_path: Path) -> None:
    deep = tmp_path / ("t" * (116 - len(str(tmp_path))))
    deep.mkdir()
    # Talk on this machine goes over no proxy; a liar that colludes has everybody talk to the adversary, too.
    words = (*(word for word in SMALL if word != "BYZANTINE=0"), "BYZANTINE=1", "ATTACK=Omn", "ROUNDS=100000")
    proxies = dict.fromkeys(("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "all_proxy"), NOWHERE)
    nothing = {"stdout": None, "stderr": None, "stdin": None}
    # As a shell's nohup, and more, leave it to their child.
    cut_off = without((signal.SIGHUP, signal.SIGINT), up(*words), streams=True)
    run = start(tmp_path, cut_off, env=importing() | proxies | {"TMPDIR": str(deep)}, **nothing)
    wait_for(lambda: rounds(tmp_path) >= 2, "two rounds")
    for number in (signal.SIGHUP, signal.SIGINT):
        os.killpg(run.pid, number)  # the terminal's whole group, as it is when that goes
    before = rounds(tmp_path)
    wait_for(lambda: rounds(tmp_path) >= before + 3, "rounds after the terminal has gone")
    command = [sys.executable, "-m", "ostrakon", "down", "RUN=small"]
    subprocess.run(command, cwd=tmp_path, env=importing(), check=True, capture_output=True, timeout=PATIENCE)
    assert run.wait(PATIENCE) == 143
    assert not children(tmp_path)
    found = summary(tmp_path)
    assert (found["status"], found["stopped_by"], found["missing"]) == ("stopped", "SIGTERM", {})
    assert not any("Traceback" in log.read_text() for log in (tmp_path / "runs/small/logs").iterdir())


def test_an_evaluator_that_cannot_work_is_told_though_the_run_is_completed(tmp_path: Path) -> None:
    (tmp_path / "runs" / "small" / "evaluations.jsonl").mkdir(parents=True)
    run = start(tmp_path, up(*SMALL, "ROUNDS=3"))
    assert run.stdout is not None
    run.stdout.readline()
    run.stdout.close()  # as in make up | head -1
    run.stdout = None
    status, wrong = end(run)
    assert status == 2
    assert "what is shown goes nowhere any more (Broken pipe)" in wrong
    assert wrong.splitlines()[-1].startswith("error: the run is over, but its evaluator ended: ")
    found = summary(tmp_path)
    assert (found["status"], found["rounds"], found["stopped_by"]) == ("completed", 3, None)
    assert "evaluations.jsonl is a folder where a file is needed" in found["errors"]["evaluator"]


def test_an_evaluator_that_dies_again_and_again_is_told_and_the_run_completed(tmp_path: Path) -> None:
    (tmp_path / "mytask.py").write_text(
        "import multiprocessing, pathlib, time\n"
        "from ostrakon.common.tasks.linear import Linear\n"
        "class Mine(Linear):\n"
        "    def test_data(self, seed):\n"
        "        metrics = pathlib.Path('runs/small/metrics.jsonl')\n"
        "        if multiprocessing.current_process().name == 'evaluator':\n"
        '            while not metrics.exists() or \'"event": "round"\' not in metrics.read_text():\n'
        "                time.sleep(0.05)\n"
        "            raise MemoryError('no test today')\n"
        "        return super().test_data(seed)\n"
    )
    words = [word for word in SMALL if not word.startswith("TASK=")]
    done = ostrakon(tmp_path, "up", *words, "TASK=mytask:Mine", "ROUNDS=3")
    assert done.status == 1
    told = "died: MemoryError: no test today (mytask.py, line 9, in test_data)"
    assert done.wrong.splitlines()[-1].startswith(f"error: the run is over, but its evaluator {told}")
    assert summary(tmp_path)["errors"]["evaluator"].startswith(told)
    assert summary(tmp_path)["status"] == "completed"


def test_a_process_that_dies_of_the_same_error_before_the_first_round_ends_the_run_with_it(tmp_path: Path) -> None:
    (tmp_path / "mytask.py").write_text(
        "import multiprocessing\n"
        "from ostrakon.common.tasks.linear import Linear\n"
        "print('\u03b8 \u2014 \\udcff')\n"  # which neither terminal nor log can hold
        "class Mine(Linear):\n"
        "    def worker_data(self, worker, workers, seed):\n"
        "        if multiprocessing.current_process().name == 'w01':\n"
        "            raise MemoryError(f'\u03b8 {id(object())} is too odd')\n"
        "        return super().worker_data(worker, workers, seed)\n",
        encoding="utf-8",
    )
    words = [word for word in SMALL if not word.startswith("TASK=")]
    ascii_only = importing() | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    status, wrong = end(start(tmp_path, up(*words, "TASK=mytask:Mine", "ROUNDS=3"), env=ascii_only))
    assert status == 2
    last = wrong.splitlines()[-1]
    assert last.startswith("error: w01 died 3 times of the same error before a round was committed: MemoryError: ")
    assert "is too odd (mytask.py, line 7, in worker_data)" in last


def test_a_run_ends_early_once_it_has_come_to_what_was_wanted_and_goes_on_when_asked(tmp_path: Path) -> None:
    slowly = [word for word in SMALL if word != "GAMMA=0.5"]
    words = (*slowly, "GAMMA=0.1", "ROUNDS=100000", "EVALUATE_EVERY=1", "UNTIL=accuracy>=5%")
    done = ostrakon(tmp_path, "up", *words)
    assert done.status == 0, done.said + done.wrong
    assert "run small has ended early: accuracy is " in done.said and "UNTIL=none` goes on with it" in done.said
    found = summary(tmp_path)
    assert (found["status"], found["stopped_by"]) == ("stopped", "UNTIL=accuracy>=5%")
    assert found["accuracy"] >= 0.05 and 0 < found["rounds"] < 100000
    assert not found["errors"]

    again = ostrakon(tmp_path, "up", "RUN=small")
    assert (again.status, summary(tmp_path)["rounds"]) == (0, found["rounds"])
    further = ostrakon(tmp_path, "up", "RUN=small", "UNTIL=accuracy>=0.8")
    assert further.status == 0 and summary(tmp_path)["stopped_by"] == "UNTIL=accuracy>=0.8"
    assert summary(tmp_path)["rounds"] > found["rounds"]
