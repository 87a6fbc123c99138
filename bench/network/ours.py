"""Rounds of a real server and real workers, each a process of its own, over mTLS on loopback."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ostrakon.bench.network import line
from ostrakon.bench.network.usage import Usage, usage
from ostrakon.common.errors import OstrakonError
from ostrakon.common.run_files import METRICS
from ostrakon.common.settings import build, passed_on
from ostrakon.deploy import processes
from ostrakon.deploy.processes import Child
from ostrakon.deploy.run_folder import RunFolder, roster
from ostrakon.deploy.settings import RunSettings
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.task_thread import THREAD as TRAINING

_PATIENCE = 300.0  # seconds that it may take until all workers have started, and then each round
_WARM = 3  # rounds that are not counted
_POLL = 0.02
_LIFE = 10**6  # rounds: it is ended when enough is measured


@dataclass(frozen=True)
class Rounds:
    """What rounds cost, each figure for one round.

    Attributes:
        seconds: how long it takes.
        server: CPU seconds of the server by thread, and its peak memory.
        worker: CPU seconds of one worker by thread, the mean of all; the peak is the largest.
        received, sent: bytes of messages of all workers, at the server.
        phases: name -> seconds, and CPU seconds of the server meanwhile.
        promised_bytes: what the server says at its start that it takes at most, beyond an idle one.
    """

    seconds: float
    server: Usage
    worker: Usage
    received: int
    sent: int
    phases: Mapping[str, tuple[float, float]]
    promised_bytes: int

    @property
    def worker_cpu(self) -> float:
        """CPU seconds of one worker that do not go into training and voting."""
        return self.worker.cpu - self.worker.threads.get(TRAINING, 0.0)


def measure(rule: str, n: int, f: int, d: int, seconds: float, least: int, *, crowd: bool = False) -> Rounds:
    """Commit rounds for so many seconds, and so many rounds at least, after up to three that are not counted.

    Args:
        least: this many rounds at least, and of three that are not counted no more than this.
        crowd: all workers are sessions of one process, and compute nothing.

    Raises:
        OstrakonError: the rule does not take such n and f, or a process ended with an error.
    """
    settings, workers = run_settings(rule, n, f, d), one_process if crowd else each_its_own
    with TemporaryDirectory() as folder, chdir(folder), running(settings, workers) as (run, children):
        metrics = run.path / METRICS
        _await(metrics, min(_WARM, least), children)
        before = [usage(child.pid) for child in children]
        first, start = len(_rounds(metrics)), time.perf_counter()
        _await(metrics, first + least, children)
        time.sleep(max(0.0, start + seconds - time.perf_counter()))
        _await(metrics, len(_rounds(metrics)) + 1, children)  # both ends are where a round has just been committed
        lines = _rounds(metrics)
        promised = promised_bytes(children[0])
        spent = [usage(child.pid).since(earlier) for child, earlier in zip(children, before, strict=True)]
    counted = lines[first:]
    duration = counted[-1]["elapsed"] - lines[first - 1]["elapsed"]
    k = len(counted)
    return Rounds(
        duration / k,
        _share(spent[:1], k),
        _share(spent[1:], k * n),
        sum(one["bytes_received"] for one in counted) // k,
        sum(one["bytes_sent"] for one in counted) // k,
        _phases(counted),
        promised,
    )


def run_settings(rule: str, n: int, f: int, d: int) -> RunSettings:
    """Those of a run that goes on until it is ended."""
    return build(
        RunSettings,
        {
            **{"run": "bench", "task": line.NAME, "options": {"size": d}, "rule": rule, "workers": n, "f": f},
            **{"byzantine": 0, "attack": "none", "rounds": _LIFE, "batch": 1, "vote_batch": 1, "gamma": 0.01},
        },
        source="the benchmark",
    )


Workers = Callable[[RunFolder, RunSettings], list[Child]]


def nobody(folder: RunFolder, settings: RunSettings) -> list[Child]:
    """No process of a worker."""
    return []


def each_its_own(folder: RunFolder, settings: RunSettings) -> list[Child]:
    """A process for each worker."""
    return [
        Child(id, "ostrakon.worker.process", folder.worker(id), folder.log(id), folder.processes_lock)
        for id in roster(settings)
    ]


def one_process(folder: RunFolder, settings: RunSettings) -> list[Child]:
    """One process, in which every worker is a session."""
    every = folder.worker("all").parent
    return [Child("crowd", "ostrakon.bench.network.crowd", every, folder.log("crowd"), folder.processes_lock)]


@contextmanager
def running(settings: RunSettings, workers: Workers) -> Iterator[tuple[RunFolder, list[Child]]]:
    """A run in the current folder, with these processes of workers: its folder, and the server before them."""
    folder = RunFolder(settings.run)
    folder.path.mkdir(parents=True)
    folder.write_settings(settings)
    folder.write_certificates(settings, None)
    write_initial(passed_on(WorkerSettings, settings), folder.initial)
    folder.write_processes(settings, None)
    folder.processes_lock.touch()
    server = Child("server", "ostrakon.server.process", folder.server, folder.log("server"), folder.processes_lock)
    children = [server, *workers(folder, settings)]
    try:
        for child in children:
            child.start()
        yield folder, children
    finally:
        for child in children:
            child.kill()
        processes.wait_for_all(children, 10)


def promised_bytes(server: Child) -> int:
    """What a server says that it takes at most, once it serves.

    Raises:
        OstrakonError: it has ended, or does not say so in time.
    """
    deadline = time.monotonic() + _PATIENCE
    while "event=serving" not in (log := server.log.read_text(encoding="utf-8")):
        if server.settle() is not None or time.monotonic() > deadline:
            raise OstrakonError(f"the server does not serve: {server.error()}")
        time.sleep(_POLL)
    return int(re.findall(r"at_most_bytes=(\d+)", log)[0])


def _await(metrics: Path, rounds: int, children: Sequence[Child]) -> None:
    seen, deadline = 0, time.monotonic() + _PATIENCE
    while (committed := len(_rounds(metrics))) < rounds:
        if committed > seen:
            seen, deadline = committed, time.monotonic() + _PATIENCE
        for child in children:
            if child.settle() is not None:
                raise OstrakonError(f"{child.name} ended: {child.error()}")
        if time.monotonic() > deadline:
            raise OstrakonError(f"round {committed + 1} was not committed in {_PATIENCE:.0f} s")
        time.sleep(_POLL)


def _rounds(metrics: Path) -> list[dict[str, Any]]:
    if not metrics.exists():
        return []
    whole, _, _ = metrics.read_text(encoding="utf-8").rpartition("\n")  # a line may be half-written
    return [one for text in whole.splitlines() if (one := json.loads(text))["event"] == "round"]


def _share(spent: Sequence[Usage], shares: int) -> Usage:
    threads: Counter[str] = Counter()
    for one in spent:
        threads.update(one.threads)
    shared = {name: seconds / shares for name, seconds in threads.items()}
    return Usage(shared, max(one.peak_bytes for one in spent))


def _phases(counted: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    names = dict.fromkeys(name for one in counted for name in one["phases"])
    return {
        name: tuple(sum(one["phases"].get(name, (0, 0))[i] for one in counted) / len(counted) for i in (0, 1))
        for name in names
    }
