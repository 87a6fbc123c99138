"""One worker process, from its settings to its end."""

import asyncio
from pathlib import Path

import structlog
import uvloop

from common.clock import MonotonicClock
from common.lifetime import stop_event
from common.runtime import prepare, run_to_exit, start_log
from common.settings import WorkerSettings, read
from common.tasks.registry import task
from worker.learner import LocalLearner

log = structlog.get_logger()


def main(config: Path, log_file: Path | None) -> None:
    """Take part in a run as a settings file says; ends the process with its exit status."""
    start_log(log_file)
    run_to_exit(lambda: work(read(WorkerSettings, config)), log_file)


def work(settings: WorkerSettings) -> None:
    """Take part in a run until it is over or a signal ends it.

    Raises:
        OstrakonError: the settings or the certificate cannot be used, or the server does not let this worker in.
    """
    prepare(settings.threads)
    learner = LocalLearner(settings, task(settings.task, settings.data))
    uvloop.run(_work(settings, learner))


async def _work(settings: WorkerSettings, learner: LocalLearner) -> None:
    from worker.connection import Connection  # gRPC starts here, once the process is set up
    from worker.session import Session

    stop = stop_event(asyncio.get_running_loop())
    async with Connection(settings, "worker") as connection:
        for warning in connection.warnings:
            log.warning(warning)
        log.info("starting", identity=connection.identity.urn, server=settings.server, task=settings.task)
        session = Session(
            settings.task,
            learner.parameters,
            learner,
            connection,
            MonotonicClock(),
            diagnose=connection.handshake_failure,
        )
        taking_part = asyncio.create_task(session.take_part())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({taking_part, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if taking_part.done():
            log.info("over", outcome=taking_part.result())
        taking_part.cancel()
        await asyncio.wait({taking_part})
