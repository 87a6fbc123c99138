"""One run's processes, from their start to the verdict on how they ended."""

import signal
import socket
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.common.settings import read
from ostrakon.deploy import processes
from ostrakon.deploy.ending import Ending
from ostrakon.deploy.goal import read_goal
from ostrakon.deploy.live import Progress, Screen, screen
from ostrakon.deploy.processes import DONE, USER_ERROR, Child
from ostrakon.deploy.record import is_over, last_round
from ostrakon.deploy.run_folder import Collusion, RunFolder, roster
from ostrakon.deploy.settings import RunSettings
from ostrakon.deploy.stopping import Stop
from ostrakon.deploy.watch import Watch
from ostrakon.worker.testbed.settings import AdversarySettings

_DIED = 1  # exit status of a process that is started again

_POLL = 0.5  # seconds between two looks at the server
_FAREWELL = 60.0  # seconds for workers and evaluator to end after the server, the last measurement included
_STARTING_POLL = 0.1  # seconds between two looks at a process that starts
_STOP = 15.0  # seconds to end in good order before a process is killed
_HOPELESS = 3  # deaths of the same error, and no round yet: the fourth life would not go better


@dataclass(frozen=True)
class Verdict:
    """How a launch ended."""

    over: bool  # nothing is left to do
    ending: Ending
    evaluator_failed: int = DONE  # with what status the evaluator ended for good; DONE too if the run was stopped
    reached: str = ""  # how, where the run was ended since it had come to what it was to go on for


class Launch:
    """The processes of a run and who of them is needed for what."""

    def __init__(self, folder: RunFolder, settings: RunSettings, plot: Collusion | None, stop: Stop) -> None:
        self.folder = folder
        self.settings = settings
        self.stop = stop
        self.server = self._child("server", "server.process", folder.server)
        self.evaluator = self._child("evaluator", "worker.evaluator.process", folder.evaluator)
        self.workers = [self._child(id, "worker.process", folder.worker(id)) for id in folder.members(settings)]
        self.adversary = [self._child("adversary", "worker.adversary", folder.adversary)] if plot else []
        self.children = [self.server, *self.adversary, *self.workers, self.evaluator]
        # Whoever lies or fails is not waited for at the end, and may die as it likes.
        byzantine = roster(settings)[: settings.byzantine]
        self.honest = [*(worker for worker in self.workers if worker.name not in byzantine), self.evaluator]
        self.reached = ""  # how, where the run has come to what it was to go on for
        self._goal = None if settings.until is None else read_goal(settings.until)
        self._begun_after = last_round(folder.path)
        self._late: list[Child] = []  # of the honest, those that had not ended long after the server

    def run(self) -> Verdict:
        """Start all processes, watch them until the run is over or is stopped, and end them.

        Raises:
            OstrakonError: the server, an adversary or more than f workers met a user's error, or a process died of the
                same error again and again before there was a round.
            OSError: a log cannot be written.
        """
        try:
            with screen() as shown:
                self._watch(shown)
        finally:
            for child in self.children:
                child.settle()
            processes.stop(self.children, _STOP)
        if self.stop.signal is None:
            self._check()
        over = is_over(self.folder.path, self.settings.rounds)
        stopped = None if self.stop.signal is None else self.stop.signal.name
        if stopped is None and not over:
            # If by nothing that is known here, somebody has sent a signal to the server itself.
            stopped = f"UNTIL={self.settings.until}" if self.reached else signal.SIGTERM.name
        ending = Ending(stopped, self._errors(over=over and stopped is None))
        failed = DONE
        if stopped is None and self.evaluator.name in ending.errors:
            failed = self.evaluator.status or _DIED
        return Verdict(over, ending, failed, self.reached if stopped and self.stop.signal is None else "")

    def _check(self) -> None:
        for child in (self.server, *self.adversary):
            if child.status == USER_ERROR:
                raise OstrakonError(child.error())
        if len(self._refused()) > self.settings.f:
            raise OstrakonError(f"too few workers are left for a quorum: {self._refused()[0].error()}")
        hopeless = self._hopeless()
        if hopeless is not None:
            raise OstrakonError(
                f"{hopeless.name} died {_HOPELESS} times of the same error before a round was committed: "
                f"{hopeless.deaths[-1]} (its log: {hopeless.log})"
            )

    def _errors(self, *, over: bool) -> dict[str, str]:
        """What ended processes for good that the run could do without."""
        errors = {}
        for child in (*self.workers, self.evaluator):
            if child.status == USER_ERROR:
                errors[child.name] = child.error()
            elif over and child in self._late:
                errors[child.name] = f"had not ended {_FAREWELL:.0f} s after the server (its log: {child.log})"
            elif over and child in self.honest and child.status is None and child.deaths:
                errors[child.name] = f"died: {child.deaths[-1]} (its log: {child.log})"
        return errors

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
            while self._goes_on() and len(self._refused()) <= self.settings.f:
                watch.poll(progress, time.monotonic(), timeout=_POLL)
                self._tend(self.children, shown, progress)
                shown.show(progress)
                self._look_for_the_goal(progress)
                processes.wait(self.children, _POLL)
        if self.server.status == DONE and is_over(self.folder.path, self.settings.rounds):
            deadline = time.monotonic() + _FAREWELL
            while self.stop.signal is None and not processes.wait_for_all(self.honest, _POLL):
                if time.monotonic() > deadline:
                    shown.say("some processes have not ended after the server: ending them")
                    for child in self.honest:
                        child.settle()
                    self._late = [child for child in self.honest if child.alive]
                    break

    def _tend(self, started: Sequence[Child], shown: Screen, progress: Progress) -> None:
        for child in started:
            if self.stop.signal is not None:
                return
            happened = child.tend()
            # The error of the server, or of an adversary, ends the run, and is told at its end.
            if happened and not (child in (self.server, *self.adversary) and child.status == USER_ERROR):
                shown.say(happened)
        progress.restarts = {child.name: child.restarts for child in self.children if child.restarts}
        if self._waits_for_nobody():
            self.server.terminate()

    def _await_adversary(self, shown: Screen, progress: Progress) -> None:
        """Until it listens, has failed for good, or a signal came."""
        address = read(AdversarySettings, self.folder.adversary).listen
        while self._goes_on() and not _listens(address):
            self._tend([self.server, *self.adversary], shown, progress)
            processes.wait(self.adversary, _STARTING_POLL)

    def _goes_on(self) -> bool:
        """Whether no signal has come and no process that the run cannot do without has ended for good."""
        needed = (self.server, *self.adversary)
        if self.reached:
            return False
        return self.stop.signal is None and all(child.status is None for child in needed) and self._hopeless() is None

    def _look_for_the_goal(self, progress: Progress) -> None:
        if self._goal is not None:
            found = progress.measurements
            self.reached = self._goal.met([found[round] for round in sorted(found)])

    def _hopeless(self) -> Child | None:
        """One that dies again and again of the same error, while no round has been committed since the start."""
        children = (self.server, *self.adversary, *self.honest)
        found = next((child for child in children if child.died_the_same_way(_HOPELESS)), None)
        return found if found is not None and last_round(self.folder.path) == self._begun_after else None

    def _waits_for_nobody(self) -> bool:
        """Whether the server waits, after the last round, for an evaluator alone that will not come any more."""
        others = [child.status for child in self.honest if child is not self.evaluator]
        lost = self.evaluator.status == USER_ERROR or self.evaluator.died_the_same_way(_HOPELESS)
        return lost and DONE in others and None not in others

    def _refused(self) -> list[Child]:
        """Workers that ended with a user's error and are not started again."""
        return [worker for worker in self.workers if worker.status == USER_ERROR]

    def _child(self, name: str, module: str, config: Path) -> Child:
        return Child(name, f"ostrakon.{module}", config, self.folder.log(name), self.folder.processes_lock)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
