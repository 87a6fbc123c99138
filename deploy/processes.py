"""The processes of a run on this machine: started from one that has torch loaded, watched, restarted, ended.

The parent of all of them is a fork server: it has imported torch and everything else that takes time, but not gRPC,
which does not survive a fork. A process that ends with 0 is done, with 2 it has met a user's error, which its log
names; with anything else it has died and is started again after a pause.
"""

import contextlib
import fcntl
import importlib
import os
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ostrakon.common import fork_server
from ostrakon.common.command import open_standard_streams
from ostrakon.common.fork_server import CONTEXT
from ostrakon.common.lifetime import ending_signal
from ostrakon.common.runtime import DIED, ERROR

DONE, USER_ERROR = 0, 2

PRELOADED = (
    "cryptography.x509",
    "cryptography.hazmat.primitives.serialization",
    "ostrakon.common.tasks.registry",
    "ostrakon.common.tasks.drawn",
    "ostrakon.worker.attacks",
    "ostrakon.worker.initial",
    "ostrakon.worker.process",
    "ostrakon.worker.session",
    "ostrakon.worker.evaluator.process",
    "ostrakon.server.core.aggregator",
    "ostrakon.server.storage.ledger.sqlite",
    "ostrakon.server.storage.model_store",
    "ostrakon.deploy.processes",
    "ostrakon.deploy.rehearsal",
    "ostrakon.cli.main",  # which the script of the command imports again in every process
)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds before a restart
_STEADY = 60.0  # seconds of life after which the pauses start over
_LAST_LINES = 1 << 16  # bytes of a log that are searched for an error
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")  # an error that differs only in these is the same one


def start_fork_server() -> None:
    """Start the process that the others are forked from; call it before anything starts threads or gRPC here.

    Raises:
        OstrakonError: there is no temporary folder for its socket.
    """
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    fork_server.start(PRELOADED)


@dataclass
class Child:
    """One process of the run, over its restarts.

    `module` has `main(config, log)`, which returns or exits when its work is done. `lock` is held while it lives.
    """

    name: str
    module: str
    config: Path
    log: Path
    lock: Path
    restarts: int = 0
    status: int | None = None
    """How it ended for good, DONE or USER_ERROR; None while it lives or is to be started again."""
    deaths: list[str] = field(default_factory=list)
    """What each of its lives died of, as far as it is known."""
    _process: ForkServerProcess | None = None
    _started: float = 0.0
    _log_start: int = 0
    _pause: float = _FIRST_PAUSE
    _due: float = 0.0

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: its log cannot be written.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as file:
            self._log_start = file.tell()
        arguments = (self.module, str(self.config), str(self.log), str(self.lock))
        self._process = CONTEXT.Process(target=enter, args=arguments, name=self.name)
        self._process.start()
        self._started = time.monotonic()

    def tend(self) -> str | None:
        """Notice that it has ended, and start it again when that is due; returns a sentence if something happened."""
        now = time.monotonic()
        if self.status is not None:
            return None
        if self._process is None:
            if now < self._due:
                return None
            self.restarts += 1
            self.start()
            return None
        code = self.settle()
        if code is None or code == DONE:
            return None
        if code == USER_ERROR:
            return f"{self.name}: {self.error()}"
        if now - self._started > _STEADY:
            self._pause = _FIRST_PAUSE
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        self._due = now + pause
        return f"{self.name} {death(code)}, starting again in {pause:g} s (its log: {self.log})"

    def settle(self) -> int | None:
        """Take in how its last life ended; returns the exit status, or None if it lives or that was taken in before."""
        code = None if self._process is None else self._process.exitcode
        if self._process is None or code is None:
            return None
        self._process.close()
        self._process = None
        if code in (DONE, USER_ERROR):
            self.status = code
        else:
            self.deaths.append(self._last(DIED) or death(code))
        return code

    def error(self) -> str:
        """The user's error that ended it, from its log."""
        return self._last(ERROR) or f"ended with status {USER_ERROR} (its log: {self.log})"

    def died_the_same_way(self, times: int) -> bool:
        """Whether its last so many lives all died of the same error, numbers in it apart."""
        last = {_NUMBERS.sub("#", death) for death in self.deaths[-times:]}
        return len(self.deaths) >= times and len(last) == 1

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return 0 if self._process is None else self._process.pid or 0

    @property
    def alive(self) -> bool:
        """Whether it lives, as far as was taken in."""
        return self._process is not None

    def _last(self, beginning: str) -> str | None:
        """What follows the last such beginning of a line that its present life has written into its log."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - _LAST_LINES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        found = [line.removeprefix(beginning) for line in lines if line.startswith(beginning)]
        return found[-1] if found else None

    @property
    def sentinel(self) -> int | None:
        """Readable when it has ended; None while it does not live."""
        return None if self._process is None else self._process.sentinel

    def terminate(self) -> None:
        """Tell it to end in good order."""
        if self._process is not None and self._process.pid is not None and self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, ending_signal())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


def wait(children: Sequence[Child], seconds: float) -> None:
    """Return when one of them has ended, or after so many seconds."""
    sentinels = [child.sentinel for child in children if child.sentinel is not None]
    if sentinels:
        connection.wait(sentinels, seconds)
    else:
        time.sleep(seconds)


def wait_for_all(children: Sequence[Child], seconds: float) -> bool:
    """Wait until none of them lives; returns whether that came true in so many seconds."""
    deadline = time.monotonic() + seconds
    for child in children:
        if child.sentinel is not None and not connection.wait([child.sentinel], max(0, deadline - time.monotonic())):
            return False
    return True


def stop(children: Sequence[Child], seconds: float) -> None:
    """End them all: told to, and by SIGKILL for those that still live after so many seconds."""
    for child in children:
        child.terminate()
    if not wait_for_all(children, seconds):
        for child in children:
            child.kill()
        wait_for_all(children, seconds)


def enter(module: str, config: str, log: str, lock: str) -> None:
    """What a child does first: its output goes to its log, and the launcher of a later run sees that it lives."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    open_standard_streams("utf-8")
    fcntl.flock(os.open(lock, os.O_RDONLY), fcntl.LOCK_SH)
    importlib.import_module(module).main(Path(config), Path(log))


def death(code: int) -> str:
    """How a process ended that was not to end so."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"died with status {code}"
