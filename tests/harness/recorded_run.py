"""A run whose servers are killed and stopped, and whose workers and evaluator record what they are told.

What they recorded is compared with the ledger. Workers and evaluator reach the servers through a proxy, since a
server that is only stopped keeps its port, and whoever takes over listens elsewhere.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostrakon.common.safetensors_file import TEMPORARY_SUFFIX
from ostrakon.server.storage.audit import audit
from tests.harness.cluster import Cluster, Process, free_port, wait_for
from tests.harness.killed_server import Plan
from tests.harness.proxy import Proxy
from tests.harness.recording_worker import Told, last_round, told_by

TAKEN_OVER = "has taken over this run from term"  # what a server ends with that was stopped
HELD = "is held by another process"  # ... that cannot take over, since the other was stopped inside its transaction
A_WEEK = 7 * 86400.0  # seconds


class RecordedRun:
    """One cluster, its servers one after the other, and its recording workers and evaluator: its recorders."""

    def __init__(self, make: Callable[..., Cluster], name: str, **settings: Any) -> None:
        self.cluster = make(name, **settings)
        self.folder = self.cluster.folder
        self.ways: list[Proxy] = []
        self.proxy = self.way(self.cluster.address)
        self.servers: list[Process] = []
        self.recorders: dict[str, Process] = {}

    def way(self, target: str) -> Proxy:
        """One more way to a server."""
        self.ways.append(Proxy.to(target))
        return self.ways[-1]

    def close(self) -> None:
        """End all ways."""
        for way in self.ways:
            way.close()

    def serve(self, plan: Plan | None = None, **changes: Any) -> Process:
        """Start the next server; the proxy leads to it."""
        plan = plan or Plan()
        cluster = self.cluster
        name = f"server{len(self.servers) + 1}"
        settings = cluster.server_settings | changes
        if plan.take_over:
            settings["listen"] = f"127.0.0.1:{free_port()}"  # the stopped one keeps its own
        plan.write(cluster.folder / f"{name}.toml")
        server = cluster.start("tests.harness.killed_server", settings, name)
        self.servers.append(server)
        self.proxy.lead_to(settings["listen"])
        return server

    def recorder(self, name: str, proxy: Proxy | None = None, **changes: Any) -> Process:
        """Start a worker, or the evaluator, again or for the first time."""
        cluster = self.cluster
        settings = cluster.worker_settings(name, server=(proxy or self.proxy).address)
        if name == "evaluator":
            changes = {"tls": cluster.tls("observer", name), "output": str(cluster.run), "evaluate_every": 2, **changes}
        self.recorders[name] = cluster.start("tests.harness.recording_worker", settings | changes, name)
        return self.recorders[name]

    def everybody(self) -> None:
        """Start all workers and the evaluator."""
        for name in (*self.cluster.roster, "evaluator"):
            self.recorder(name)

    def told(self) -> int:
        """The last round that anybody was told of."""
        return last_round(self.folder)

    def wait_for_round(self, round: int, patience: float = 90.0) -> None:
        """Until somebody was told that it is committed."""

        def committed() -> bool:
            assert self.servers[-1].alive or self.told() >= round, self.servers[-1].text
            return self.told() >= round

        wait_for(committed, f"round {round}", patience)

    def strike(self, plan: Plan) -> None:
        """Start a server with this plan, and wait until that has come true."""
        server = self.serve(plan)
        if plan.signal == signal.SIGKILL:
            status = server.wait()
            assert status == -signal.SIGKILL, (plan, status, server.text)
        else:
            wait_for(lambda: stopped(server.pid), f"a server stopped {plan.point}")

    def wake(self, old: Process) -> None:
        """Let a stopped server that was taken over go on: it must end by itself, with the sentence."""
        old.signal(signal.SIGCONT)
        assert old.wait() == 2, old.text
        assert TAKEN_OVER in old.text

    def finish(self) -> list[str]:
        """The run ends, and everything holds. Returns the digests of the committed models."""
        for name, process in self.recorders.items():
            assert process.wait() == 0, (name, process.text)
        assert self.servers[-1].wait() == 0, self.servers[-1].text
        self.check()
        entries = self.cluster.entries()
        assert [entry.round for entry in entries] == list(range(1, self.cluster.server_settings["rounds"] + 1))
        return [entry.winner for entry in entries]

    def halt(self) -> None:
        """End all processes in good order, server first; everything holds."""
        for process in (self.servers[-1], *self.recorders.values()):
            process.signal(signal.SIGTERM)
            assert process.wait() == 0, process.text
        self.check()

    def check(self) -> None:
        """What holds while no server runs: one chain, and everything that anybody was told is in it."""
        audit(self.cluster.run)
        told = told_by(self.folder)
        assert told.keys() == self.recorders.keys()
        there = {entry.round: entry.hash for entry in self.cluster.entries()}
        for name, heads in told.items():
            lost = [head for head in heads if there.get(head.round) != head.hash]
            assert not lost, f"{name} was told what is in no ledger: {lost[:3]}"
            terms = [head.term for head in heads]
            assert terms == sorted(terms), f"{name} listened to a smaller term again"
        errors = [line for server in self.servers for line in server.text.splitlines() if "error" in line]
        assert all(TAKEN_OVER in line or HELD in line for line in errors), errors

    def heads(self, name: str) -> list[Told]:
        """What one recorder was told."""
        return told_by(self.folder)[name]

    def models(self) -> set[str]:
        """Names in models/, temporary ones too."""
        return set(os.listdir(self.cluster.run / "models"))

    def prune(self) -> set[str]:
        """What is left in models/ after one more start, temporary files having grown old."""
        for path in (self.cluster.run / "models").glob(f".*{TEMPORARY_SUFFIX}"):
            age(path)
        server = self.serve(rounds=self.cluster.committed(), linger=0.1)
        assert server.wait() == 0, server.text
        return self.models()


def age(path: Path) -> None:
    """Make a file a week older."""
    before = path.stat().st_mtime - A_WEEK
    os.utime(path, (before, before))


def stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped."""
    try:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except FileNotFoundError:
        return False
    return all(state == "T" for state in states)
