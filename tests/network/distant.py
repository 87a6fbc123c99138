"""A cluster of which every process has a host of its own, and what must hold of a run whose network fails."""

import signal
import socket
from pathlib import Path
from typing import Any

from ostrakon.deploy.certificates import issue
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.ledger import Entry
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from tests.harness.cluster import Cluster, Process, wait_for
from tests.harness.proxy import Proxy
from tests.harness.recording_worker import told_by
from tests.network.hosts import Host
from tests.network.switch import Port, Switch

PORT = 7433
SERVER = "10.77.0.1"
HEALED = 20.0  # seconds after which a run goes on at the latest, once it can: about 5 were seen, 10 without power


class Distant(Cluster):
    """The server and the workers on hosts of their own; the test asks for the status at the server's host."""

    def __init__(self, folder: Path, workers: int = 3, task: str = "linear", seed: int = 1, **server: Any) -> None:
        # Without `grace` a round that was held up does not wait as long again for whoever is still missing.
        quick = {"rounds": 100_000, "grace": 0.0, "grace_floor": 1.0, "join_timeout": 1.0}
        super().__init__(folder, workers, **{"task": task, **quick, **server})
        issue(self.certificates, "server", "server", [SERVER])
        write_initial(WorkerSettings(task=task), self.initial)
        self.server_settings["listen"] = f"0.0.0.0:{PORT}"
        self.address = f"{SERVER}:{PORT}"
        self._task = task
        names = ("server", *self.roster)
        self.hosts = {name: Host(f"10.77.0.{i}") for i, name in enumerate(names, 1)}
        self.switch = Switch(self.hosts.values(), seed)
        connect = lambda: socket.create_connection(("127.0.0.1", PORT), timeout=5)  # noqa: E731
        self.door = Proxy(lambda: self.hosts["server"].inside(connect))

    def worker_settings(self, name: str, **values: Any) -> dict[str, Any]:
        there = {"server": self.address if name else self.door.address, "task": self._task}
        return super().worker_settings(name, **there | values)

    def start(self, module: str, settings: dict[str, Any], name: str) -> Process:
        where = {
            "namespace": str(self.hosts[name].namespace),
            "module": "tests.harness.recording_worker" if module == "ostrakon.worker.process" else module,
            "config": str(self.write(f"{name}-settings", settings)),
        }
        return super().start("tests.network.inside", where, name)

    def port(self, name: str) -> Port:
        """The wires of one host."""
        return self.switch[self.hosts[name].address]

    def lose_power(self, name: str, process: Process) -> None:
        """End a host, without a packet, and put a new one with its address in its place."""
        self.port(name).out.open = False
        process.kill()
        self.hosts[name].close()
        self.hosts[name] = Host(self.hosts[name].address)
        self.switch.plug(self.hosts[name])
        self.port(name).out.open = True

    def stop(self) -> None:
        super().stop()
        self.door.close()
        self.switch.close()
        for host in self.hosts.values():
            host.close()

    def reached(self, rounds: int, patience: float = 90.0) -> list[Entry]:
        """Wait for so many entries."""
        return wait_for(
            lambda: len(entries := self.entries()) >= rounds and entries, f"{rounds} committed rounds", patience
        )

    def pauses(self, *awaited: str) -> list[Entry]:
        """Wait until the run says that it waits (for these, where given), and see that it does. Returns the entries."""

        def waiting() -> str:
            status = self.status()
            return status.waiting if status is not None and status.waiting.endswith(", ".join(awaited)) else ""

        sentence = wait_for(waiting, f"a run that says it waits for {awaited}")
        entries = self.entries()
        status = self.status()
        assert status is not None
        assert status.waiting == sentence
        assert len(self.entries()) == len(entries) == status.committed.head.round
        return entries

    def goes_on(self, rounds: int = 2) -> None:
        """Wait until so many more rounds are committed, the first one soon."""
        before = len(self.entries())
        self.reached(before + 1, HEALED)
        self.reached(before + rounds)

    def ends_well(self) -> list[Entry]:
        """End the run in good order: the ledger is whole, and holds whatever a worker was told."""
        living = [process for process in self.processes if process.alive]
        assert len(living) >= 1 + len(self.roster), "a process has ended"
        wait_for(lambda: all(told_by(self.folder).values()), "a committed round that every worker was told of")
        for process in living:
            process.signal(signal.SIGTERM)
        for process in living:
            assert process.wait() == 0, process.text
        entries = self.entries()
        assert [entry.round for entry in entries] == list(range(1, len(entries) + 1))
        audit(self.run)
        hashes = {entry.round: entry.hash for entry in entries}
        told = told_by(self.folder)
        assert set(told) == {f"{name}-settings" for name in self.roster}
        for heads in told.values():
            assert all(hashes.get(head.round) == head.hash for head in heads)
        return entries
