"""One worker process, from its settings to its end."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from ostrakon.common.clock import MonotonicClock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.layout import parameters
from ostrakon.common.lifetime import stop_event
from ostrakon.common.runtime import prepare, run_to_exit, start_log
from ostrakon.common.settings import build, read
from ostrakon.common.tasks.registry import task
from ostrakon.worker.attacks import PIVOTAL, attack_schedule, needs_colluders
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.task_thread import TaskThread
from ostrakon.worker.testbed.faults import fault_schedule
from ostrakon.worker.testbed.settings import WorkerFile

if TYPE_CHECKING:
    from ostrakon.worker.connection import Connection
    from ostrakon.worker.transport import Transport

log = structlog.get_logger()


def main(config: Path, log_file: Path | None, tap: str | None = None) -> None:
    """Take part in a run as a settings file says; ends the process with its exit status.

    `tap` is an address that stands for the one in the settings.
    """
    start_log(log_file)

    def run() -> None:
        settings = read(WorkerFile, config)
        work(settings if tap is None else build(WorkerFile, settings.model_dump() | {"tap": tap}, source="--tap"))

    run_to_exit(run, log_file)


def work(settings: WorkerFile) -> None:
    """Take part in a run until it is over or a signal ends it.

    Raises:
        OstrakonError: the settings or the certificate cannot be used, or the server does not let this worker in.
    """
    prepare(settings.threads)
    _check_company(settings)
    thread = TaskThread()
    uvloop.run(_work(settings, thread.call(_rehearsed, settings), thread))


def _rehearsed(settings: WorkerFile) -> LocalLearner:
    learner = LocalLearner(settings, task(settings.task, settings.data, settings.seed), settings.attack)
    learner.rehearse()
    return learner


def _check_company(settings: WorkerFile) -> None:
    fault_schedule(settings.fault)
    colluding = needs_colluders(settings.attack)
    if settings.byzantine_vote == PIVOTAL:
        colluding = colluding or f"byzantine_vote {PIVOTAL}"
    if colluding and settings.adversary is None:
        raise OstrakonError(
            f"{colluding} needs to know what others send: give adversary = 'HOST:PORT', where "
            "`python -m ostrakon.worker.adversary` listens (make up starts it by itself)"
        )
    if settings.tap is not None and settings.lies:
        raise OstrakonError("tap is for honest workers: leave it out, or attack, byzantine_vote and fault")


async def _work(settings: WorkerFile, learner: LocalLearner, thread: TaskThread) -> None:
    from ostrakon.worker.connection import Connection  # gRPC starts here, once the process is set up
    from ostrakon.worker.session import Session

    stop = stop_event(asyncio.get_running_loop())
    async with Connection(settings, "worker") as connection, AsyncExitStack() as beside:
        for warning in connection.warnings:
            log.warning(warning)
        log.info("starting", identity=connection.identity.urn, server=settings.server, task=settings.task)
        session = Session(
            settings.task,
            parameters(learner.layout),
            learner,
            _way(settings, connection, beside),
            MonotonicClock(),
            layout=learner.layout,
            constants=learner.constants,
            data_timeout=settings.data_timeout,
            diagnose=connection.handshake_failure,
            offload=thread.offload,
        )
        taking_part = asyncio.create_task(session.take_part())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({taking_part, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if taking_part.done():
            log.info("over", outcome=taking_part.result())
        taking_part.cancel()
        await asyncio.wait({taking_part})


def _way(settings: WorkerFile, connection: "Connection", beside: AsyncExitStack) -> "Transport":
    """The connection itself for an honest worker; in a test bed with what lies, fails or listens on it.

    `beside` closes the connections that are opened beside it.
    """
    way: Transport = connection
    if settings.fault is not None:
        from ostrakon.worker.testbed.faulty import Faulty

        way = Faulty(way, fault_schedule(settings.fault), partial(_another, settings))
    if settings.attack is not None or settings.byzantine_vote != "honest":
        from ostrakon.worker.testbed.byzantine import Byzantine

        colluders = None
        if settings.adversary is not None:
            from ostrakon.worker.testbed.colluding import Colluding

            colluders = Colluding(settings, settings.adversary)
            beside.push_async_callback(colluders.close)
        attacks = attack_schedule(settings.attack)
        way = Byzantine(way, attacks, settings.byzantine_vote, seed=settings.seed, colluders=colluders)
    if settings.tap is not None:
        from ostrakon.worker.testbed.tap import Tap

        tap = Tap(way, settings, settings.tap)
        beside.push_async_callback(tap.close)
        way = tap
    return way


def _another(settings: WorkerFile, *, disguised: bool = False) -> "Connection":
    """One more connection of this worker; disguised, it claims to be somebody else."""
    from ostrakon.worker.connection import Connection

    return Connection(settings, "worker", claimed="urn:ostrakon:worker:another" if disguised else None)
