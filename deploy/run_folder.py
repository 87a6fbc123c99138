"""The folder of a run on this machine: what lies where, who holds it, and the settings of each process."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from ostrakon.common.command import called
from ostrakon.common.errors import OstrakonError, readable
from ostrakon.common.files import write_atomically
from ostrakon.common.identity.revocation import read_revoked, revocation_list
from ostrakon.common.run_files import LEDGER, LONGEST_LEDGER, SETTINGS
from ostrakon.common.setting_types import Settings, is_unicode
from ostrakon.common.settings import TlsFiles, passed_on, read
from ostrakon.deploy.settings import RunSettings
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.testbed.settings import AdversarySettings, Byzantine, WorkerFile

RUNS = Path("runs")
HOST = "127.0.0.1"
EVALUATOR = "evaluator"  # its id
LINGER = 60.0  # seconds: the evaluator may be in the middle of a measurement when the run ends


class RunFolder:
    """Where a run's files lie.

    One launcher at a time holds a run (`launcher.lock`), and its processes hold `processes.lock` together, so that
    the next launcher can wait for the children of one that was killed.
    """

    def __init__(self, name: str) -> None:
        """Raises:
        OstrakonError: its path would be too long for a ledger, or can stand in no file of settings.
        OSError: the current folder is gone.
        """
        self.name = name
        self.path = (RUNS / name).absolute()
        if not is_unicode(str(self.path)):
            raise OstrakonError(f"{readable(self.path)} is no UTF-8, as settings are written in: use another folder")
        size = len(os.fsencode(self.path / LEDGER))
        if size > LONGEST_LEDGER:
            raise OstrakonError(
                f"{readable(self.path)} is too long a path for a run: its ledger would have one of {size} bytes, "
                f"{LONGEST_LEDGER} are possible. Use a folder that lies less deep"
            )
        self.settings = self.path / SETTINGS
        self.certificates = self.path / "certificates"
        self.initial = self.path / "initial.safetensors"
        self.server = self.path / "server.toml"
        self.evaluator = self.path / "evaluator.toml"
        self.adversary = self.path / "adversary.toml"
        self.launcher_lock = self.path / "launcher.lock"
        self.processes_lock = self.path / "processes.lock"

    def exists(self) -> bool:
        """Whether the run was ever started; a link to nowhere in the place of its settings is one that was."""
        return os.path.lexists(self.settings)

    def worker(self, id: str) -> Path:
        return self.path / "workers" / f"{id}.toml"

    def log(self, process: str) -> Path:
        return self.path / "logs" / f"{process}.log"

    def read_settings(self) -> RunSettings:
        """The settings the run was started with.

        Raises:
            OstrakonError: there is no such run, or its settings are damaged.
        """
        if not self.exists():
            known = sorted(path.parent.name for path in RUNS.glob(f"*/{SETTINGS}"))
            raise OstrakonError(
                f"there is no run {self.name} (known: {', '.join(known) or 'none'}): name one with RUN="
            )
        return read(RunSettings, self.settings)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run as its only launcher.

        Raises:
            OstrakonError: another launcher holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.launcher_lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(lock):
                raise OstrakonError(
                    f"run {self.name} is running already (process {self.holder()}): "
                    f"`{called()} down RUN={self.name}` ends it, RUN=NAME starts another one beside it"
                )
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(lock)

    def holder(self) -> int | None:
        """The process id of the launcher that holds the run; None if nobody does."""
        try:
            lock = os.open(self.launcher_lock, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if _lock(lock):
                return None
            text = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(lock)

    def await_orphans(self, seconds: float) -> None:
        """Wait until the processes of an earlier launcher have ended.

        Raises:
            OstrakonError: they have not, in so many seconds.
        """
        lock = os.open(self.processes_lock, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + seconds
        try:
            while not _lock(lock):
                if time.monotonic() > deadline:
                    raise OstrakonError(
                        f"processes of an earlier launcher of run {self.name} have not ended in {seconds:.0f} s: "
                        f"end those that hold {self.processes_lock} (fuser names them) and try again"
                    )
                time.sleep(0.05)
        finally:
            os.close(lock)

    def write_settings(self, settings: RunSettings) -> None:
        """Keep what makes the run; where this file exists, so does the run."""
        _write_toml(self.settings, settings)

    def write_certificates(self, settings: RunSettings, plot: "Collusion | None") -> None:
        """Give every process its certificate; those that are still valid are kept."""
        from ostrakon.deploy import certificates  # gRPC comes with it: not in the module that forked processes share

        certificates.init(self.certificates)
        certificates.issue(self.certificates, "server", "main")
        certificates.issue(self.certificates, "observer", EVALUATOR)
        certificates.issue(self.certificates, "operator", "local")
        if plot:
            certificates.issue(self.certificates, "adversary", "main")
        for id in self.members(settings):
            certificates.issue(self.certificates, "worker", id)

    def write_processes(self, settings: RunSettings, plot: "Collusion | None") -> None:
        """Write the settings of the server, the evaluator, every worker and an adversary, for free ports."""
        address = f"{HOST}:{settings.port or free_port()}"
        server = passed_on(
            ServerSettings,
            settings,
            roster=roster(settings),
            directory=self.path,
            initial=self.initial,
            listen=address,
            tls=self.tls("server-main"),
            threads=1,
            observers=1,
            linger=LINGER,
        )
        _write_toml(self.server, server)
        tls = self.tls(f"observer-{EVALUATOR}")
        _write_toml(self.evaluator, _worker(settings, address, tls, Byzantine(), output=self.path))
        meeting = self._write_adversary(settings, plot) if plot else None
        liars = dict(zip(roster(settings), settings.liars(), strict=False))
        colluders = {*plot.corrupted, *plot.voters} if plot else set()
        for id in roster(settings):
            met = {}
            if id in colluders:
                met["adversary"] = meeting
            elif id not in liars:
                met["tap"] = meeting
            worker = _worker(settings, address, self.tls(f"worker-{id}"), liars.get(id, Byzantine()), **met)
            _write_toml(self.worker(id), worker)

    def _write_adversary(self, settings: RunSettings, plot: "Collusion") -> str:
        """Write the settings of the adversary; returns its address."""
        address = f"{HOST}:{free_port()}"
        adversary = passed_on(
            AdversarySettings,
            settings,
            listen=address,
            tls=self.tls("adversary-main"),
            honest=roster(settings)[settings.byzantine :],
            corrupted=plot.corrupted,
            voters=plot.voters,
            threads=1,
        )
        _write_toml(self.adversary, adversary)
        return address

    def members(self, settings: RunSettings) -> tuple[str, ...]:
        """The workers of the roster that are not revoked."""
        revoked = {who.id for who in read_revoked(revocation_list(self.tls("server-main"))) if who.role == "worker"}
        return tuple(id for id in roster(settings) if id not in revoked)

    def tls(self, stem: str) -> TlsFiles:
        folder = self.certificates
        return TlsFiles(ca=folder / "ca.pem", certificate=folder / f"{stem}.pem", key=folder / f"{stem}.key")


def _worker(settings: RunSettings, address: str, tls: TlsFiles, lies: Byzantine, **own: Any) -> WorkerFile:
    """The settings of a worker or the evaluator; how it lies is its own, as the run says that of its liars alone."""
    lying = {name: getattr(lies, name) for name in Byzantine.model_fields}
    return passed_on(WorkerFile, settings, server=address, tls=tls, threads=1, **lying, **own)


def roster(settings: RunSettings) -> tuple[str, ...]:
    """The workers of a run: w00, w01, ... The first `byzantine` of them lie."""
    return tuple(f"w{position:02}" for position in range(settings.workers))


class Collusion(NamedTuple):
    """The liars that need an adversary, in roster order."""

    corrupted: tuple[str, ...]  # to tell them what to send
    voters: tuple[str, ...]  # to tell them what to vote


def collusion(settings: RunSettings) -> Collusion | None:
    """Who needs an adversary; None if nobody does."""
    from ostrakon.worker.attacks import PIVOTAL, needs_colluders  # torch comes with it

    liars = list(zip(roster(settings), settings.liars(), strict=False))
    corrupted = tuple(id for id, each in liars if needs_colluders(each.attack))
    voters = tuple(id for id, each in liars if each.byzantine_vote == PIVOTAL)
    return Collusion(corrupted, voters) if corrupted or voters else None


def _write_toml(path: Path, settings: Settings) -> None:
    values = settings.model_dump(mode="json", exclude_none=True)
    write_atomically(path, tomli_w.dumps(values).encode())


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
