"""One server process, from its settings to its end.

It starts in this order: take the run's lock, bind the port, draw a larger term, answer.
"""

import asyncio
import os
import socket
from pathlib import Path

import grpc
import structlog
import uvloop

from ostrakon.common.aggregation import Rule, rule
from ostrakon.common.clock import Clock, MonotonicClock
from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.lifetime import stop_event
from ostrakon.common.model_file import write_model
from ostrakon.common.revocation import revocation_list
from ostrakon.common.run_files import AVERAGE, LAST, LEDGER, METRICS, MODELS
from ostrakon.common.runtime import peak_bytes, prepare, process_age, run_to_exit, start_log
from ostrakon.common.safetensors_file import sweep
from ostrakon.common.settings import read
from ostrakon.server.core.aggregator import Aggregator
from ostrakon.server.core.commit import check_not_taken_over, unless_taken_over
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.metrics import MetricsFile
from ostrakon.server.core.revocation import Revocations
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.listening import check_address, host_memory, open_door
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.rpc.service import Front, Service
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.ledger import Genesis, Ledger
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.lock import locked
from ostrakon.server.storage.model_store import ModelStore, stored_fixed_part
from ostrakon.server.storage.parentage import metadata_of
from ostrakon.server.storage.run import ModelLost, OpenRun, check_ledger_is_there, check_same_run, open_run

log = structlog.get_logger()

LOCK = "server.lock"

TERM_CHECK_SECONDS = 2.0  # between two looks at whether another server has taken over


def main(config: Path, log_file: Path | None, take_over: bool = False) -> None:
    """Serve the run that a settings file describes; ends the process with its exit status."""
    start_log(log_file)
    run_to_exit(lambda: serve(read(ServerSettings, config), take_over=take_over), log_file)


def serve(settings: ServerSettings, *, take_over: bool = False) -> None:
    """Serve a run until it is over or a signal ends it.

    Raises:
        OstrakonError: the settings, the port, the run's folder or the certificate cannot be used.
    """
    clock = MonotonicClock()
    started = clock.now() - process_age()
    prepare(settings.threads)
    chosen = rule(settings.rule)
    chosen.check_run(len(settings.roster), settings.f, asynchronous=settings.quorum == "asynchronous")
    check_address(settings)
    settings.directory.mkdir(parents=True, exist_ok=True)
    with locked(settings.directory / LOCK, settings.listen, take_over=take_over):
        uvloop.run(_serve(settings, chosen, clock, started))


async def _serve(settings: ServerSettings, chosen: Rule, clock: Clock, started: float) -> None:
    stop = stop_event(asyncio.get_running_loop())
    server = open_door(settings)
    front = Front()
    server.add_generic_rpc_handlers((front,))

    store = ModelStore(settings.directory / MODELS)
    check_ledger_is_there(settings, store)
    ledger = SqliteLedger(settings.directory / LEDGER)
    metrics = MetricsFile(settings.directory / METRICS)
    check_same_run(settings, ledger)  # before the term, which ends every other server
    revoked = frozenset if settings.tls is None else Revocations(revocation_list(settings.tls))
    term = ledger.draw_term(f"{socket.gethostname()} process {os.getpid()}")
    try:
        run = open_run(settings, ledger, store)  # after the term: nobody else can move the head any more
    except ModelLost as lost:
        recovery = Recovery(settings, lost, term, clock, two_phase=chosen.two_phase, revoked=revoked)
        front.answering = Service(recovery, recovery, secure=settings.tls is not None)
        recovered = await _recover(server, recovery, lost, ledger, stop)
        if recovered is None:
            return
        run = recovered
    stored_fixed_part(settings.directory, run.genesis.constants)  # what cannot be written at the end is said now
    unless_taken_over(ledger, term, lambda: store.prune(run.kept))
    sweep(settings.directory)
    device = resolve_device(settings.device)
    aggregator = Aggregator(chosen, len(settings.roster), run.theta.size, device)
    coordinator = Coordinator(
        settings,
        run,
        term,
        two_phase=chosen.two_phase,
        ledger=ledger,
        store=store,
        aggregator=aggregator,
        clock=clock,
        metrics=metrics,
        revoked=revoked,
        started=started,
    )
    calls = Calls(coordinator)
    started_before = front.answering is not None
    front.answering = Service(coordinator, calls, secure=settings.tls is not None)
    if not started_before:
        await server.start()
    log.info("serving", address=settings.listen, run=coordinator.run_id, term=term, round=coordinator.head_round + 1)
    own = chosen.cost.vectors(len(settings.roster), settings.f) if device.type == "cpu" else 0
    log.info("host memory", at_most_bytes=host_memory(settings, run.theta.size, own), rule=chosen.cost.memory)

    rounds = asyncio.create_task(coordinator.run())
    stopped = asyncio.create_task(stop.wait())
    watch = asyncio.create_task(_watch_term(coordinator, ledger))
    try:
        await asyncio.wait({rounds, stopped}, return_when=asyncio.FIRST_COMPLETED)
        status = rounds.result() if rounds.done() else "stopped"
        if rounds.done():
            farewell = asyncio.create_task(calls.farewell())
            await asyncio.wait({farewell, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(check_not_taken_over, ledger, term)  # these files may be a successor's
        _write_results(settings.directory, coordinator, run.genesis)
        metrics.record(
            "finished",
            status=status,
            round=coordinator.head_round,
            seconds=coordinator.elapsed(),
            seconds_to_first_commit=coordinator.seconds_to_first_commit,
            peak_bytes=peak_bytes(),
            refused=[[who, why, count] for (who, why), count in sorted(coordinator.refusals.counted().items())],
        )
    finally:
        watch.cancel()
        rounds.cancel()
        await asyncio.wait({rounds, watch})
        await server.stop(grace=1)
        metrics.close()
        ledger.close()


def _write_results(directory: Path, coordinator: Coordinator, genesis: Genesis) -> None:
    metadata = metadata_of(genesis, coordinator.last)
    fixed = stored_fixed_part(directory, genesis.constants)
    write_model(directory / LAST, coordinator.theta, genesis.layout, metadata, fixed)
    # The average is no committed model: a run that begins from it has no parent.
    anonymous = {name: value for name, value in metadata.items() if name != "head"}
    write_model(directory / AVERAGE, coordinator.average(), genesis.layout, anonymous, fixed)


async def _watch_term(waiting: Coordinator | Recovery, ledger: Ledger) -> None:
    """End this server when another has taken over: without its quorum it would never come to a commit that says so."""
    while True:
        await asyncio.sleep(TERM_CHECK_SECONDS)
        try:
            await asyncio.to_thread(check_not_taken_over, ledger, waiting.term)
        except OstrakonError as error:
            waiting.fail(error)


async def _recover(
    server: grpc.aio.Server, recovery: Recovery, lost: ModelLost, ledger: Ledger, stop: asyncio.Event
) -> OpenRun | None:
    """The run with the model that a worker sent back; None if a signal ends this process before."""
    await server.start()
    looking, stopped = asyncio.create_task(recovery.theta()), asyncio.create_task(stop.wait())
    watch = asyncio.create_task(_watch_term(recovery, ledger))
    try:
        await asyncio.wait({looking, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            run = await asyncio.to_thread(lost.found, looking.result())
            check_not_taken_over(ledger, recovery.term)  # it may have taken long: the head may be another server's
            return run
    except BaseException:
        await server.stop(grace=1)
        raise
    finally:
        watch.cancel()
    looking.cancel()
    await server.stop(grace=1)
    ledger.close()
    return None
