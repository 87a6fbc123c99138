"""What a test bed makes of a worker: how it learns, and what stands between its session and the server."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import ADVERSARY_NAME
from ostrakon.common.tasks.contract import Task
from ostrakon.worker.attacks import PIVOTAL, attack_schedule, needs_colluders
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.testbed.byzantine import Byzantine
from ostrakon.worker.testbed.faults import fault_schedule
from ostrakon.worker.testbed.faulty import Faulty
from ostrakon.worker.testbed.flipping import FlippingLearner
from ostrakon.worker.testbed.settings import WorkerFile
from ostrakon.worker.transport import Transport

if TYPE_CHECKING:
    from ostrakon.worker.connection import Connection, Line


class Bed:
    """A worker that lies or fails as its settings say, or an honest one with a tap."""

    def __init__(self, settings: WorkerFile) -> None:
        """Starts nothing.

        Raises:
            OstrakonError: an attack or a fault cannot be read, or the settings do not go together.
        """
        self._settings = settings
        self._faults = fault_schedule(settings.fault)
        self._attacks = attack_schedule(settings.attack)
        _check_company(settings)

    def learner(self, task: Task) -> LocalLearner:
        """What computes; where the attack is LF at some time, on flipped labels then.

        Raises:
            OstrakonError: the device or the task's model cannot be used.
        """
        if any(attack.flips_labels for attack in self._attacks.all()):
            return FlippingLearner(self._settings, task, self._attacks)
        return LocalLearner(self._settings, task)

    def way(self, connection: "Connection", beside: AsyncExitStack) -> Transport:
        """The way to the server, with what lies, fails or listens on it.

        `beside` closes the connections that are opened beside that to the server.

        Raises:
            OstrakonError: the certificate cannot be used.
        """
        settings = self._settings
        if settings.tap is not None:
            from ostrakon.worker.testbed.tap import Tap  # gRPC comes with it, which starts late

            tap = Tap(connection, self._line(settings.tap), settings.tap_deadline)
            beside.push_async_callback(tap.close)
            return tap
        colluders = None
        if settings.adversary is not None:
            from ostrakon.worker.testbed.colluding import Colluding

            colluders = Colluding(self._line(settings.adversary), settings.tap_deadline)
            beside.push_async_callback(colluders.close)
        faulty = Faulty(connection, self._faults, self._another)
        return Byzantine(faulty, self._attacks, settings.byzantine_vote, seed=settings.seed, colluders=colluders)

    def _line(self, adversary: str) -> "Line":
        from ostrakon.worker.connection import open_line

        return open_line(adversary, "worker", tls=self._settings.tls, id=self._settings.id, name=ADVERSARY_NAME)

    def _another(self, *, disguised: bool = False) -> "Connection":
        """One more connection of this worker; disguised, it claims to be somebody else."""
        from ostrakon.worker.connection import Connection

        settings = self._settings
        claimed = "urn:ostrakon:worker:another" if disguised else None
        return Connection(settings.server, "worker", tls=settings.tls, id=settings.id, claimed=claimed)


def _check_company(settings: WorkerFile) -> None:
    colluding = needs_colluders(settings.attack)
    if settings.byzantine_vote == PIVOTAL:
        colluding = colluding or f"byzantine_vote {PIVOTAL}"
    if colluding and settings.adversary is None:
        raise OstrakonError(
            f"{colluding} needs to know what others send: give adversary = 'HOST:PORT', where "
            "`ostrakon adversary` listens (ostrakon up starts it by itself)"
        )
    if settings.tap is not None and settings.lies:
        raise OstrakonError("tap is for honest workers: leave it out, or attack, byzantine_vote and fault")
