"""`ostrakon up` from its words to the summary, and `ostrakon down` and `ostrakon status`.

Exit status of `ostrakon up`: 0 if the run is over, or has come to what UNTIL says; 2 for a user's error; 1 if it is
over, but the evaluator died; 128 and the number of the signal if one stopped the run before its last round (130 after
Ctrl-C, 143 after `ostrakon down`).
"""

import os
import signal
import sys
import time
from contextlib import closing

from rich.console import Console

from ostrakon.common.command import called
from ostrakon.common.errors import OstrakonError
from ostrakon.common.run_files import LEDGER
from ostrakon.common.settings import passed_on
from ostrakon.deploy import launch_settings, processes
from ostrakon.deploy.apart import apart
from ostrakon.deploy.ending import forget_ending, keep_ending
from ostrakon.deploy.goal import read_goal
from ostrakon.deploy.launch import Launch
from ostrakon.deploy.live import Progress, table
from ostrakon.deploy.processes import USER_ERROR
from ostrakon.deploy.record import is_over, read_record
from ostrakon.deploy.run_folder import Collusion, RunFolder, roster
from ostrakon.deploy.settings import RunSettings
from ostrakon.deploy.stopping import CALLED_OFF, Stop, Stopped
from ostrakon.deploy.watch import Watch
from ostrakon.worker.settings import WorkerSettings

_ORPHANS = 20.0  # seconds for the processes of a launcher that was killed to end
_DOWN = 45.0  # seconds for a launcher to end all of its processes


def up(words: list[str]) -> int:
    """Start the run that the words describe, or go on with it; returns the exit status.

    Raises:
        OstrakonError: the words, or what the run's folder holds, cannot be used; another launcher holds the run;
            the server or the evaluator met such an error, or a process dies again and again before there is a round.
        OSError: a file or folder of the run cannot be used.
    """
    with Stop() as stop:
        try:
            return _up(words, stop)
        except Stopped:
            print("stopped before anything was started: the same command begins again")
            return stop.status


def _up(words: list[str], stop: Stop) -> int:
    asked = launch_settings.parse(words)
    folder = RunFolder(launch_settings.run_name(asked))
    if folder.exists():
        with folder.held():
            settings = launch_settings.resumed_run(_settings(folder), asked)
            if is_over(folder.path, settings.rounds):
                print(f"run {folder.name} is over: nothing is left to do")
                _report(folder)
                return 0
            if how := _reached(folder, settings):
                folder.write_settings(settings)
                _report(folder)
                _say_reached(folder, how)
                return 0
            return _launch(folder, settings, _rehearse(folder, settings), stop)
    settings = launch_settings.new_run(asked)
    plot = _rehearse(folder, settings)
    with folder.held():
        return _launch(folder, settings, plot, stop)


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
    print(f"run {name} has ended; `{called()} up RUN={name}` goes on with it")
    return 0


def status(name: str) -> int:
    """Print where a run stands, from its server or else from what it left behind; returns the exit status.

    Raises:
        OstrakonError: there is no such run, or its server has never started.
    """
    folder = RunFolder(name)
    progress = Progress(_settings(folder))
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


def _settings(folder: RunFolder) -> RunSettings:
    """What the run was started with, under the name that its folder has now: it may have been moved."""
    return folder.read_settings().model_copy(update={"run": folder.name})


def _rehearse(folder: RunFolder, settings: RunSettings) -> Collusion | None:
    processes.start_fork_server()
    what = f"the rehearsal of task {settings.task}"
    found = apart(what, "ostrakon.deploy.rehearsal:rehearse_run", settings, folder.initial)
    return None if found is None else Collusion(*map(tuple, found))


def _launch(folder: RunFolder, settings: RunSettings, plot: Collusion | None, stop: Stop) -> int:
    folder.await_orphans(_ORPHANS)
    folder.write_settings(settings)
    folder.write_certificates(settings, plot)
    if not folder.initial.exists():
        initial = passed_on(WorkerSettings, settings, id=roster(settings)[-1])
        apart("the initial model", "ostrakon.worker.initial:write_initial", initial, folder.initial)
    folder.write_processes(settings, plot)
    forget_ending(folder.path)
    launch = Launch(folder, settings, plot, stop)
    stop.note()
    verdict = launch.run()
    keep_ending(folder.path, verdict.ending)
    if (folder.path / LEDGER).exists():
        _report(folder)
    stopped_by = verdict.ending.stopped_by
    if verdict.reached:
        _say_reached(folder, verdict.reached)
        return 0
    if stopped_by is not None:
        if not verdict.over:
            print(f"run {folder.name} was stopped by {stopped_by}; `{called()} up RUN={folder.name}` goes on with it")
        return CALLED_OFF + signal.Signals[stopped_by]
    if verdict.evaluator_failed == USER_ERROR:
        raise OstrakonError(f"the run is over, but its evaluator ended: {launch.evaluator.error()}")
    if verdict.evaluator_failed:
        print(f"error: the run is over, but its evaluator {verdict.ending.errors['evaluator']}", file=sys.stderr)
    return verdict.evaluator_failed


def _say_reached(folder: RunFolder, how: str) -> None:
    print(f"run {folder.name} has ended early: {how}; `{called()} up RUN={folder.name} UNTIL=none` goes on with it")


def _reached(folder: RunFolder, settings: RunSettings) -> str:
    """How an earlier launch of the run has come to what it was to go on for; empty if none has."""
    if settings.until is None or not (folder.path / LEDGER).exists():
        return ""
    return read_goal(settings.until).met(read_record(folder.path).measurements)


def _report(folder: RunFolder) -> None:
    from ostrakon.deploy import report  # matplotlib comes with it

    summary = report.write(folder.path)
    Console().print(report.table(folder.name, summary))
    print(f"summary: {folder.path / report.SUMMARY}")
    print(f"curves:  {folder.path / report.CURVES}")
