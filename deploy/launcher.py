"""`make up` from its words to the summary: prepare the run's folder, start its processes, watch them to the end."""

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from ostrakon.common.errors import OstrakonError
from ostrakon.common.run_files import LEDGER
from ostrakon.common.settings import AdversarySettings, RunSettings, read
from ostrakon.deploy import launch_settings, processes
from ostrakon.deploy.live import Progress, Screen, screen, table
from ostrakon.deploy.processes import DONE, USER_ERROR, Child
from ostrakon.deploy.record import read_record
from ostrakon.deploy.rehearsal import rehearse
from ostrakon.deploy.run_folder import RunFolder, collusion, roster
from ostrakon.deploy.watch import Watch

INTERRUPTED = 130  # exit status after Ctrl-C

_POLL = 0.5  # seconds between two looks at the server
_ORPHANS = 20.0  # seconds for the processes of a launcher that was killed to end
_FAREWELL = 60.0  # seconds for workers and evaluator to end after the server, the last measurement included
_STARTING_POLL = 0.1  # seconds between two looks at a process that starts
_STOP = 15.0  # seconds to end in good order before a process is killed
_DOWN = 45.0  # seconds for a launcher to end all of that


def up(words: list[str]) -> int:
    """Start the run that the words describe, or go on with it; returns the exit status.

    Raises:
        OstrakonError: the words, or what the run's folder holds, cannot be used; another launcher holds the run;
            the server met such an error.
    """
    given = launch_settings.parse(words)
    folder = RunFolder(launch_settings.run_name(given))
    if folder.exists():
        with folder.held():
            settings = launch_settings.resumed_run(folder.read_settings(), given)
            if _is_over(folder, settings):
                print(f"run {folder.name} is over: nothing is left to do")
                return _report(folder)
            processes.start_fork_server()
            rehearse(settings, folder.initial)
            return _launch(folder, settings)
    settings = launch_settings.new_run(given)
    processes.start_fork_server()
    launch_settings.check_parts(settings)
    rehearse(settings, folder.initial)
    with folder.held():
        return _launch(folder, settings)


def down(name: str) -> int:
    """End a running run in good order; returns the exit status.

    Raises:
        OstrakonError: there is no such run, or it did not end in time.
    """
    folder = RunFolder(name)
    folder.read_settings()
    pid = folder.holder()
    if pid is None:
        print(f"run {name} is not running")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN
    while folder.holder() is not None:
        if time.monotonic() > deadline:
            raise OstrakonError(
                f"run {name} has not ended {_DOWN:.0f} s after SIGTERM to process {pid}: end it with kill -9 {pid}"
            )
        time.sleep(0.1)
    print(f"run {name} has ended; `make up RUN={name}` goes on with it")
    return 0


def status(name: str) -> int:
    """Print where a run stands, from its server or else from what it left behind; returns the exit status.

    Raises:
        OstrakonError: there is no such run, or its server has never started.
    """
    folder = RunFolder(name)
    progress = Progress(folder.read_settings())
    if folder.holder() is not None and folder.server.exists():
        with closing(Watch(folder)) as watch:
            if watch.poll(progress, time.monotonic(), timeout=3):
                Console().print(table(progress))
                return 0
        print(f"run {name} is running, but its server does not answer (its log: {folder.log('server')})")
        return 0
    from ostrakon.deploy import report  # matplotlib comes with it

    print(f"run {name} is not running")
    Console().print(report.table(name, report.summarise(read_record(folder.path))))
    return 0


class _Launch:
    """One run's processes, from their start to their end."""

    def __init__(self, folder: RunFolder, settings: RunSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.server = self._child("server", "server.process", folder.server)
        self.evaluator = self._child("evaluator", "worker.evaluator", folder.evaluator)
        self.workers = [self._child(id, "worker.process", folder.worker(id)) for id in folder.members(settings)]
        self.adversary = [self._child("adversary", "worker.adversary", folder.adversary)] if collusion(settings) else []
        self.children = [self.server, *self.adversary, *self.workers, self.evaluator]
        # Whoever lies or fails is not waited for at the end.
        byzantine = roster(settings)[: settings.byzantine]
        self.honest = [*(worker for worker in self.workers if worker.name not in byzantine), self.evaluator]
        self.signal: int | None = None  # that told this launcher to stop

    def run(self) -> int:
        with self._signals():
            try:
                with screen() as shown:
                    self._watch(shown)
            finally:
                processes.stop(self.children, _STOP)
        for child in (self.server, *self.adversary):
            if child.status == USER_ERROR:
                raise OstrakonError(child.error())
        if len(self._refused()) > self.settings.f:
            raise OstrakonError(f"too few workers are left for a quorum: {self._refused()[0].error()}")
        if self.signal is None and _is_over(self.folder, self.settings):
            return _report(self.folder)
        if (self.folder.path / LEDGER).exists():
            _report(self.folder)
        print(f"run {self.folder.name} was stopped; `make up RUN={self.folder.name}` goes on with it")
        return INTERRUPTED if self.signal == signal.SIGINT else 0

    def _watch(self, shown: Screen) -> None:
        """Until the server has ended for good and all others had time to, or a signal came."""
        progress = Progress(self.settings)
        shown.say(f"{progress.title()} (logs: {self.folder.log('server').parent})")
        for child in (self.server, *self.adversary):
            child.start()
        if self.adversary:  # before the workers, so that no copy of the first round is lost
            self._await_adversary(shown, progress)
        for child in (*self.workers, self.evaluator):
            child.start()
        with closing(Watch(self.folder)) as watch:
            while self.signal is None and not self._failed() and len(self._refused()) <= self.settings.f:
                watch.poll(progress, time.monotonic(), timeout=_POLL)
                self._tend(self.children, shown, progress)
                shown.show(progress)
                processes.wait(self.children, _POLL)
        if self.server.status == DONE and _is_over(self.folder, self.settings):
            deadline = time.monotonic() + _FAREWELL
            while self.signal is None and not processes.wait_for_all(self.honest, _POLL):
                if time.monotonic() > deadline:
                    shown.say("some processes have not ended after the server: ending them")
                    break

    def _tend(self, started: Sequence[Child], shown: Screen, progress: Progress) -> None:
        for child in started:
            happened = child.tend()
            # The error of the server, or of an adversary, ends the run, and is told at its end.
            if happened and not (child in (self.server, *self.adversary) and child.status == USER_ERROR):
                shown.say(happened)
        progress.restarts = {child.name: child.restarts for child in self.children if child.restarts}

    def _await_adversary(self, shown: Screen, progress: Progress) -> None:
        """Until it listens, has failed for good, or a signal came."""
        address = read(AdversarySettings, self.folder.adversary).listen
        while self.signal is None and not self._failed() and not _listens(address):
            self._tend([self.server, *self.adversary], shown, progress)
            processes.wait(self.adversary, _STARTING_POLL)

    def _failed(self) -> bool:
        """Whether a process that the run cannot do without has ended for good."""
        return any(child.status is not None for child in (self.server, *self.adversary))

    def _refused(self) -> list[Child]:
        """Workers that ended with a user's error and are not started again."""
        return [worker for worker in self.workers if worker.status == USER_ERROR]

    def _child(self, name: str, module: str, config: Path) -> Child:
        return Child(name, f"ostrakon.{module}", config, self.folder.log(name), self.folder.processes_lock)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number

        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _launch(folder: RunFolder, settings: RunSettings) -> int:
    folder.await_orphans(_ORPHANS)
    folder.write_settings(settings)
    folder.write_certificates(settings)
    folder.write_initial(settings)
    folder.write_processes(settings)
    return _Launch(folder, settings).run()


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _is_over(folder: RunFolder, settings: RunSettings) -> bool:
    if not (folder.path / LEDGER).exists():
        return False
    record = read_record(folder.path)
    return record.status == "diverged" or (record.status == "completed" and record.rounds >= settings.rounds)


def _report(folder: RunFolder) -> int:
    from ostrakon.deploy import report  # matplotlib comes with it

    summary = report.write(folder.path)
    Console().print(report.table(folder.name, summary))
    print(f"summary: {folder.path / report.SUMMARY}")
    print(f"curves:  {folder.path / report.CURVES}")
    return 0
