"""Real processes over mTLS on loopback, for integration tests: started, watched, killed by process id."""

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import tomli_w

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Role
from ostrakon.deploy.certificates import init, issue
from ostrakon.deploy.processes import enter, start_fork_server
from ostrakon.server.storage.ledger import Entry
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelKey, ModelStore
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.connection import Connection
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.transport import CallFailed

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0  # seconds a condition may take on a busy machine before a test gives up


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Poll until the condition holds; returns what it returned."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {patience:g} s")


def importing() -> dict[str, str]:
    """The environment of a command that runs in another folder and imports this repository."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One server, worker or evaluator, forked like those of `ostrakon up`; its output is kept in a file."""

    def __init__(self, module: str, config: Path, output: Path) -> None:
        start_fork_server()
        self.output = output
        output.touch()
        lock = output.with_name("processes.lock")
        lock.touch()
        arguments = (module, str(config), str(output), str(lock))
        self._process = multiprocessing.get_context("forkserver").Process(target=enter, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def alive(self) -> bool:
        return self._process.exitcode is None

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit status, once it has ended."""
        self._process.join(patience)
        if self._process.exitcode is None:
            raise TimeoutError(f"{self.output.name} has not ended within {patience:g} s: {self.text}")
        return self._process.exitcode

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._process.kill()
        self._process.join()


class Cluster:
    """The files of one run and the processes started on them."""

    def __init__(self, folder: Path, workers: int = 3, f: int = 1, **server: Any) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.certificates = folder / "certificates"
        self.roster = tuple(f"w{i:02d}" for i in range(workers))
        self.address = f"127.0.0.1:{free_port()}"
        self.processes: list[Process] = []
        init(self.certificates)
        others: list[tuple[Role, str]] = [("server", "server"), ("observer", "evaluator"), ("adversary", "adversary")]
        for role, name in [*others, *(("worker", w) for w in self.roster)]:
            issue(self.certificates, role, name)
        self.initial = folder / "initial.safetensors"
        write_initial(WorkerSettings(task="linear"), self.initial)
        self.server_settings: dict[str, Any] = {
            "task": "linear",
            "roster": list(self.roster),
            "f": f,
            "gamma": 0.5,
            "rounds": 5,
            "rule": "Mean2P",
            "directory": str(self.run),
            "initial": str(self.initial),
            "listen": self.address,
            "threads": 1,
            "device": "cpu",
            "tls": self.tls("server", "server"),
            "grace_floor": 30.0,
            **server,
        }

    def tls(self, role: str, name: str) -> dict[str, str]:
        stem = self.certificates / f"{role}-{name}"
        return {"ca": str(self.certificates / "ca.pem"), "certificate": f"{stem}.pem", "key": f"{stem}.key"}

    def worker_settings(self, name: str, **values: Any) -> dict[str, Any]:
        common = {"task": "linear", "server": self.address, "threads": 1, "device": "cpu", "vote_batch": 32}
        return common | {"tls": self.tls("worker", name)} | values

    def write(self, name: str, settings: dict[str, Any]) -> Path:
        """A process's settings file."""
        path = self.folder / f"{name}.toml"
        path.write_text(tomli_w.dumps(settings), encoding="utf-8")
        return path

    def start(self, module: str, settings: dict[str, Any], name: str) -> Process:
        process = Process(module, self.write(name, settings), self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def server(self, **changes: Any) -> Process:
        return self.start("ostrakon.server.process", self.server_settings | changes, "server")

    def worker(self, name: str, **changes: Any) -> Process:
        return self.start("ostrakon.worker.process", self.worker_settings(name, **changes), name)

    def workers(self, **changes: Any) -> list[Process]:
        return [self.worker(name, **changes) for name in self.roster]

    def evaluator(self) -> Process:
        settings = self.worker_settings("", tls=self.tls("observer", "evaluator"), output=str(self.run))
        return self.start("ostrakon.worker.evaluator.process", settings | {"evaluate_every": 2}, "evaluator")

    def adversary(self, corrupted: Sequence[str], voters: Sequence[str] = (), **changes: Any) -> str:
        """Start the meeting place of these liars, and wait for it; all others have a tap. Returns its address."""
        address = f"127.0.0.1:{free_port()}"
        settings = {
            "listen": address,
            "tls": self.tls("adversary", "adversary"),
            "honest": [name for name in self.roster if name not in {*corrupted, *voters}],
            "corrupted": list(corrupted),
            "voters": list(voters),
            "threads": 1,
            **changes,
        }
        process = self.start("ostrakon.worker.adversary", settings, "adversary")
        wait_for(lambda: "meeting" in process.text, "the adversary")
        return address

    def observer(self) -> Connection:
        """A connection of the evaluator's."""
        settings = WorkerSettings.model_validate(self.worker_settings("", tls=self.tls("observer", "evaluator")))
        return Connection(settings.server, "observer", tls=settings.tls)

    def status(self) -> pb.StatusResponse | None:
        """Where the run stands, as an observer hears it; None while the server does not answer."""

        async def ask() -> pb.StatusResponse | None:
            async with self.observer() as observer:
                try:
                    return await observer.status()
                except CallFailed:
                    return None

        return asyncio.run(ask())

    def entries(self) -> list[Entry]:
        """What is committed so far; nothing before the server has made its ledger."""
        try:
            with closing(SqliteLedger(self.run / "ledger.sqlite")) as ledger:
                return list(ledger.entries())
        except OstrakonError:
            return []

    def committed(self) -> int:
        """How many rounds are committed so far."""
        try:
            with closing(SqliteLedger(self.run / "ledger.sqlite")) as ledger:
                head = ledger.head()
        except OstrakonError:
            return 0
        return 0 if head is None else head.round

    def head_file(self) -> Path:
        """The file of the model that was committed last."""
        head = self.entries()[-1]
        return ModelStore(self.run / "models").path(ModelKey(head.winner, head.running_sum))

    def stop(self) -> None:
        for process in self.processes:
            if process.alive:
                process.signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except TimeoutError:
                process.kill()
