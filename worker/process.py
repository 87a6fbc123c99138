"""One worker process, from its settings to its end."""

import asyncio
import multiprocessing
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from ostrakon.common.clock import MonotonicClock
from ostrakon.common.layout import parameters
from ostrakon.common.lifetime import stop_event
from ostrakon.common.runtime import prepare, run_to_exit, start_log
from ostrakon.common.settings import build, read
from ostrakon.common.tasks.registry import task
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.own_data import own_data
from ostrakon.worker.task_thread import TaskThread
from ostrakon.worker.testbed.settings import WorkerFile

if TYPE_CHECKING:
    from ostrakon.worker.testbed.bed import Bed

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
    # A task's DataLoader may start processes: to fork them from one with gRPC's threads in it is not safe.
    multiprocessing.set_start_method("forkserver", force=True)
    bed = _bed(settings)
    thread = TaskThread()
    uvloop.run(_work(settings, thread.call(_rehearsed, settings, bed), thread, bed))


def _bed(settings: WorkerFile) -> "Bed | None":
    """What a test bed makes of this worker; None for an honest one, which does not even import what could lie."""
    if not settings.lies and settings.tap is None:
        return None
    from ostrakon.worker.testbed.bed import Bed

    return Bed(settings)


def _rehearsed(settings: WorkerFile, bed: "Bed | None") -> LocalLearner:
    made = task(settings.task, own_data(settings), settings.seed, settings.options)
    learner = LocalLearner(settings, made) if bed is None else bed.learner(made)
    learner.rehearse()
    return learner


async def _work(settings: WorkerFile, learner: LocalLearner, thread: TaskThread, bed: "Bed | None") -> None:
    from ostrakon.worker.connection import Connection  # gRPC starts here, once the process is set up
    from ostrakon.worker.session import Session

    stop = stop_event(asyncio.get_running_loop())
    async with (
        Connection(settings.server, "worker", tls=settings.tls, id=settings.id) as connection,
        AsyncExitStack() as beside,
    ):
        for warning in connection.warnings:
            log.warning(warning)
        log.info("starting", identity=connection.identity.urn, server=settings.server, task=settings.built_for)
        session = Session(
            settings.built_for,
            parameters(learner.layout),
            learner,
            connection if bed is None else bed.way(connection, beside),
            MonotonicClock(),
            layout=learner.layout,
            constants=learner.constants,
            data_timeout=settings.data_timeout,
            server_timeout=settings.server_timeout,
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
