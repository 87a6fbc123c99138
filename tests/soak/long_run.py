"""Ten thousand rounds with workers and observers that come and go: does a server, or a worker, grow?

python -m tests.soak.long_run --rounds 10000 --folder /tmp/long --figures long_run.json --picture long_run.png
"""

import argparse
import json
import signal
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from ostrakon.common.run_files import LEDGER, METRICS, MODELS
from ostrakon.server.storage.audit import audit
from ostrakon.worker.testbed.faults import Fault
from tests.harness.cluster import Cluster, Process

MIB = 1 << 20
SPELL = 50  # rounds between two comings and goings
SAMPLES = 200  # over the run
WARM = (0.4, 0.5)  # the part of a run that its last tenth is compared with: of 10,000 rounds, every liar was there once

# What a member does that lies or fails, one of them a spell: attacks of one alone, and all faults.
BRIEF = {Fault.SLOW: "slow(seconds=0.5)", Fault.FLOOD: "flood(calls=40)"}
LIARS: list[Mapping[str, Any]] = [
    {"attack": "SF"},
    {"attack": "Gauss(scale=5)", "byzantine_vote": "random"},
    {"attack": "LF", "byzantine_vote": "outer"},
    *(
        {"fault": {"slow": "slow(seconds=0.5)", "flood": "flood(calls=40)"}.get(each.value, each.value)}
        for each in Fault
    ),
]


@dataclass(frozen=True)
class Sample:
    """What was measured once this many rounds were committed."""

    round: int
    seconds: float
    server_rss: int  # bytes
    worker_rss: int  # bytes, of the first worker that lives all the time
    server_handles: int
    worker_handles: int
    ledger: int  # bytes, with its log of pages
    metrics: int  # bytes
    models: int  # bytes
    model_files: int
    logs: int  # bytes, of all processes


@dataclass(frozen=True)
class Summary:
    """What the samples say. Growth: the median of the last tenth less that of the warm window."""

    rounds: int
    rounds_per_second: float
    server_growth: int
    worker_growth: int
    server_handle_growth: int
    worker_handle_growth: int
    folder_bytes_per_round: float  # ledger and metrics
    log_bytes_per_round: float
    most_model_files: int
    model_files_at_the_end: int
    comings_and_goings: int


class LongRun:
    """Seven workers: one lies or fails in ever new ways, one comes late, is killed and comes back, five are there.

    f = 3, so that there is something to vote on when both of them are away.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        self.rounds = rounds
        self.cluster = Cluster(
            folder, workers=7, f=3, rounds=rounds, grace_floor=0.3, join_timeout=1.0, absent_after=1, linger=5.0
        )
        self.liar, self.guest, *self.faithful = self.cluster.roster
        self.server = self.cluster.server()
        self.workers = [self.cluster.worker(name) for name in self.faithful]
        self.visitors: dict[str, Process] = {}
        self.events = 0
        self.samples: list[Sample] = []
        self._liars = cycle(LIARS)
        self._lie: Mapping[str, Any] = {}
        self._turns = cycle([self._next_liar, self._guest, self._observer])
        self._started = time.monotonic()

    def run(self) -> Summary:
        """Until the last round; everything that has to hold at the end is checked."""
        next_sample = next_event = next_repair = 0
        while self.server.alive:
            round = self._round()
            if round >= next_sample:
                self.samples.append(self._sample(round))
                next_sample = round + max(1, self.rounds // SAMPLES)
            if round >= next_event:
                next(self._turns)()
                self.events += 1
                next_event = round + SPELL
            if round >= next_repair:
                next_repair = round + SPELL
                if self.liar in self.visitors and not self._alive(self.liar):  # it crashes by itself
                    self._restart(self.liar, **self._lie)
            for process in self.workers:
                assert process.alive or not self.server.alive or self._over(), process.text
            time.sleep(0.1)
        assert self.server.wait() == 0, self.server.text
        for process in self.workers:
            assert process.wait() == 0, process.text
        assert audit(self.cluster.run).rounds == self.rounds
        return self._summary()

    def _over(self) -> bool:
        return self._round() >= self.rounds

    def _next_liar(self) -> None:
        self._lie = next(self._liars)
        self._restart(self.liar, **self._lie)

    def _guest(self) -> None:
        if self._alive(self.guest):
            self.visitors[self.guest].kill()
        else:
            self._restart(self.guest)

    def _observer(self) -> None:
        observer = self.visitors.get("evaluator")
        if observer is None or not observer.alive:
            self.visitors["evaluator"] = self.cluster.evaluator()
        elif self.events % 2:
            observer.kill()
        else:
            observer.signal(signal.SIGTERM)

    def _restart(self, name: str, **settings: Any) -> None:
        if self._alive(name):
            self.visitors[name].kill()
        self.visitors[name] = self.cluster.worker(name, **settings)

    def _alive(self, name: str) -> bool:
        return name in self.visitors and self.visitors[name].alive

    def _round(self) -> int:
        """The last round in the metrics, read from the file's end."""
        path = self.cluster.run / METRICS
        if not path.exists():
            return 0
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
        rounds = [json.loads(line)["round"] for line in lines[1:] if line.endswith("}")]
        return max(rounds, default=0)

    def _sample(self, round: int) -> Sample:
        run = self.cluster.run
        models = list((run / MODELS).iterdir()) if (run / MODELS).exists() else []
        worker = self.workers[0]
        return Sample(
            round=round,
            seconds=time.monotonic() - self._started,
            server_rss=rss(self.server.pid),
            worker_rss=rss(worker.pid),
            server_handles=handles(self.server.pid),
            worker_handles=handles(worker.pid),
            ledger=sum(size(path) for path in run.glob(f"{LEDGER}*")),
            metrics=size(run / METRICS),
            models=sum(size(path) for path in models),
            model_files=len(models),
            logs=sum(size(path) for path in self.cluster.folder.glob("*.log")),
        )

    def _summary(self) -> Summary:
        samples = self.samples[:-1] if self.samples[-1].server_rss == 0 else self.samples
        warm, last = list(window(samples, *WARM)), list(window(samples, 0.9, 1.0))

        def growth(name: str) -> int:
            before, after = (statistics.median(getattr(each, name) for each in part) for part in (warm, last))
            return int(after - before)

        end, begin = samples[-1], warm[0]
        rounds = end.round - begin.round
        return Summary(
            rounds=self.rounds,
            rounds_per_second=round(end.round / end.seconds, 1),
            server_growth=growth("server_rss"),
            worker_growth=growth("worker_rss"),
            server_handle_growth=growth("server_handles"),
            worker_handle_growth=growth("worker_handles"),
            folder_bytes_per_round=round((end.ledger + end.metrics - begin.ledger - begin.metrics) / rounds, 1),
            log_bytes_per_round=round((end.logs - begin.logs) / rounds, 1),
            most_model_files=max(each.model_files for each in samples),
            model_files_at_the_end=len(list((self.cluster.run / MODELS).iterdir())),
            comings_and_goings=self.events,
        )


def window(samples: list[Sample], start: float, end: float) -> Iterator[Sample]:
    """The samples of a part of the run's rounds."""
    rounds = samples[-1].round
    return (each for each in samples if start * rounds <= each.round <= end * rounds)


def rss(pid: int) -> int:
    """Resident memory of a process now, in bytes; 0 once it is gone."""
    try:
        return 1024 * int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])
    except (OSError, IndexError):
        return 0


def handles(pid: int) -> int:
    """Open file handles of a process; 0 once it is gone."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def size(path: Path) -> int:
    """Bytes of a file; 0 once it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def picture(samples: list[Sample], summary: Summary, path: Path) -> None:
    """Memory, handles and the folder over the rounds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    memory, open_files, folder = figure.subplots(3, 1, sharex=True)
    rounds = [each.round for each in samples]
    memory.set_title(
        f"{summary.rounds:,} rounds, {summary.comings_and_goings} comings and goings of workers and observers",
        loc="left",
    )
    for name, label, colour in (("server", "server", "#0072B2"), ("worker", "a worker", "#E69F00")):
        memory.plot(rounds, [getattr(each, f"{name}_rss") / MIB for each in samples], color=colour, label=label)
        open_files.plot(rounds, [getattr(each, f"{name}_handles") for each in samples], color=colour, label=label)
    for name, label, colour in (
        ("ledger", "ledger", "#0072B2"),
        ("metrics", "metrics", "#009E73"),
        ("models", "models", "#D55E00"),
        ("logs", "logs of all processes", "#999999"),
    ):
        folder.plot(rounds, [getattr(each, name) / MIB for each in samples], color=colour, label=label)
    for panel, label in ((memory, "memory, MiB"), (open_files, "open files"), (folder, "on disk, MiB")):
        panel.set_ylabel(label)
        panel.set_ylim(0, 1.15 * max(max(line.get_ydata()) for line in panel.get_lines()))
        panel.grid(color="#e4e4e4")
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    folder.set_xlabel("round")
    folder.set_xlim(0, rounds[-1])
    figure.savefig(path, dpi=100)


def main() -> None:
    """Run, print the summary, write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, required=True, help="for the run; must not exist")
    parser.add_argument("--figures", type=Path, help="JSON file for all samples")
    parser.add_argument("--picture", type=Path, help="PNG file")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    long = LongRun(given.folder, given.rounds)
    try:
        summary = long.run()
    finally:
        long.cluster.stop()
        if given.figures and long.samples:
            values = {"samples": [asdict(each) for each in long.samples]}
            given.figures.write_text(json.dumps(values, indent=1) + "\n")
    print(json.dumps(asdict(summary), indent=1))
    if given.picture:
        picture(long.samples, summary, given.picture)


if __name__ == "__main__":
    main()
