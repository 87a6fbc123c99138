"""Rounds of a real server and real workers, each a process of its own, over mTLS on loopback."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    settings = build(
        RunSettings,
        {
            **{"run": "bench", "task": line.NAME, "options": {"size": d}, "rule": rule, "workers": n, "f": f},
            **{"byzantine": 0, "attack": "none", "rounds": _LIFE, "batch": 1, "vote_batch": 1, "gamma": 0.01},
        },
        source="the benchmark",
    )
    with TemporaryDirectory() as folder, chdir(folder), _running(settings, crowd=crowd) as (children, metrics):
        _await(metrics, min(_WARM, least), children)
        before = [usage(child.pid) for child in children]
        first, start = len(_rounds(metrics)), time.perf_counter()
        _await(metrics, first + least, children)
        time.sleep(max(0.0, start + seconds - time.perf_counter()))
        _await(metrics, len(_rounds(metrics)) + 1, children)  # both ends are where a round has just been committed
        lines = _rounds(metrics)
        promised = int(re.findall(r"at_most_bytes=(\d+)", children[0].log.read_text(encoding="utf-8"))[0])
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


@contextmanager
def _running(settings: RunSettings, *, crowd: bool) -> Iterator[tuple[list[Child], Path]]:
    folder = RunFolder(settings.run)
    folder.path.mkdir(parents=True)
    folder.write_settings(settings)
    folder.write_certificates(settings, None)
    write_initial(passed_on(WorkerSettings, settings), folder.initial)
    folder.write_processes(settings, None)
    folder.processes_lock.touch()
    server = Child("server", "ostrakon.server.process", folder.server, folder.log("server"), folder.processes_lock)
    if crowd:
        every = folder.worker("all").parent
        workers = [Child("crowd", "ostrakon.bench.network.crowd", every, folder.log("crowd"), folder.processes_lock)]
    else:
        workers = [
            Child(id, "ostrakon.worker.process", folder.worker(id), folder.log(id), folder.processes_lock)
            for id in roster(settings)
        ]
    children = [server, *workers]
    try:
        for child in children:
            child.start()
        yield children, folder.path / METRICS
    finally:
        for child in children:
            child.kill()
        processes.wait_for_all(children, 10)


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
