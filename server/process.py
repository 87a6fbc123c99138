"""One server process, from its settings to its end.

It starts in this order: take the run's lock, bind the port, draw a larger term, answer.
"""

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import structlog
import uvloop

from common.aggregation import BLOCK_BYTES, Rule, rule
from common.clock import Clock, MonotonicClock
from common.device import resolve_device
from common.errors import OstrakonError
from common.lifetime import stop_event
from common.model_file import sweep, write_model
from common.renewal import RenewableCredentials
from common.revocation import revocation_list
from common.run_files import AVERAGE, LAST, LEDGER, METRICS, MODELS
from common.runtime import allow_open_files, peak_bytes, prepare, process_age, run_to_exit, start_log
from common.settings import ServerSettings, read
from common.wire import CHUNK_BYTES
from server.aggregator import Aggregator
from server.calls import Calls
from server.commit import check_not_taken_over, unless_taken_over
from server.coordinator import Coordinator
from server.ledger import Ledger
from server.ledger.sqlite import SqliteLedger
from server.metrics import MetricsFile
from server.model_store import ModelStore
from server.opening import ModelLost, OpenRun, check_ledger_is_there, check_same_run, open_run
from server.parentage import metadata_of
from server.recovery import Recovery
from server.revocation import Revocations
from server.service import Front, Service
from server.uploads import upload_slots

log = structlog.get_logger()

LOCK = "server.lock"

TERM_CHECK_SECONDS = 2.0  # between two looks at whether another server has taken over

UPLOAD_BUFFER_BYTES = 12 << 20  # gRPC's own, of one upload; measured

CONNECTIONS = 1536  # open at a time, those that have not shown a certificate yet included
OPEN_FILES = CONNECTIONS + 256

SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # otherwise a second server shares the port in silence
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),  # a worker that trains for longer connects again when it calls
    ("grpc.max_allowed_incoming_connections", CONNECTIONS),
    ("grpc.max_receive_message_length", CHUNK_BYTES + (64 << 10)),
    ("grpc.max_concurrent_streams", 16),  # a caller needs one or two at a time
    # What a call may send ahead of being read. On a fast line gRPC would raise it to megabytes: for every call of every
    # connection. An upload is read a message at a time; it now moves 1 MiB in each round trip at most.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16 << 10),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),  # a peer that is gone leaves no call open for long
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # shorter than a worker's, which would be cut off
)


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
    if not allow_open_files(OPEN_FILES):
        log.warning(f"few open files are allowed: raise the hard limit (ulimit -Hn) to {OPEN_FILES} at least")
    chosen = rule(settings.rule)
    chosen.check_run(len(settings.roster), settings.f, asynchronous=settings.quorum == "asynchronous")
    _check_address(settings)
    settings.directory.mkdir(parents=True, exist_ok=True)
    with _lock(settings.directory / LOCK, settings.listen, take_over=take_over):
        uvloop.run(_serve(settings, chosen, clock, started))


async def _serve(settings: ServerSettings, chosen: Rule, clock: Clock, started: float) -> None:
    stop = stop_event(asyncio.get_running_loop())
    server = grpc.aio.server(options=SERVER_OPTIONS)
    _bind(server, settings)
    front = Front()
    server.add_generic_rpc_handlers((front,))

    store = ModelStore(settings.directory / MODELS)
    check_ledger_is_there(settings, store)
    ledger = SqliteLedger(settings.directory / LEDGER)
    metrics = MetricsFile(settings.directory / METRICS)
    check_same_run(settings, ledger)  # before the term, which ends every other server
    term = ledger.draw_term(f"{socket.gethostname()} process {os.getpid()}")
    try:
        run = open_run(settings, ledger, store)  # after the term: nobody else can move the head any more
    except ModelLost as lost:
        recovery = Recovery(settings, lost, term, clock, two_phase=chosen.two_phase)
        front.answering = Service(recovery, recovery, secure=settings.tls is not None)
        recovered = await _recover(server, recovery, lost, ledger, stop)
        if recovered is None:
            return
        run = recovered
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
        revoked=frozenset if settings.tls is None else Revocations(revocation_list(settings.tls)),
        started=started,
    )
    calls = Calls(coordinator)
    started_before = front.answering is not None
    front.answering = Service(coordinator, calls, secure=settings.tls is not None)
    if not started_before:
        await server.start()
    log.info("serving", address=settings.listen, run=coordinator.run_id, term=term, round=coordinator.head_round + 1)
    own = chosen.cost.vectors(len(settings.roster), settings.f) if device.type == "cpu" else 0
    log.info("host memory", at_most_bytes=_host_memory(settings, run.theta.size, own), rule=chosen.cost.memory)

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
        for name, theta in ((LAST, coordinator.theta), (AVERAGE, coordinator.average())):
            metadata = dict(metadata_of(run.genesis, coordinator.last))
            if name == AVERAGE:
                del metadata["head"]  # it is no committed model: a run that begins from it has no parent
            write_model(settings.directory / name, theta, run.genesis.layout, metadata)
        metrics.record(
            "finished",
            status=status,
            round=coordinator.head_round,
            seconds=coordinator.elapsed(),
            seconds_to_first_commit=coordinator.seconds_to_first_commit,
            peak_bytes=peak_bytes(),
            refused=[[who, why, count] for (who, why), count in sorted(coordinator.refused_beside().items())],
        )
    finally:
        watch.cancel()
        rounds.cancel()
        await asyncio.wait({rounds, watch})
        await server.stop(grace=1)
        metrics.close()
        ledger.close()


async def _watch_term(coordinator: Coordinator, ledger: SqliteLedger) -> None:
    """End this server when another has taken over: without its quorum it would never come to a commit that says so."""
    while True:
        await asyncio.sleep(TERM_CHECK_SECONDS)
        try:
            await asyncio.to_thread(check_not_taken_over, ledger, coordinator.term)
        except OstrakonError as error:
            coordinator.fail(error)


async def _recover(
    server: grpc.aio.Server, recovery: Recovery, lost: ModelLost, ledger: Ledger, stop: asyncio.Event
) -> OpenRun | None:
    """The run with the model that a worker sent back; None if a signal ends this process before."""
    await server.start()
    looking, stopped = asyncio.create_task(recovery.theta()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({looking, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            run = await asyncio.to_thread(lost.found, looking.result())
            check_not_taken_over(ledger, recovery.term)  # it may have taken long: the head may be another server's
            return run
    except BaseException:
        await server.stop(grace=1)
        raise
    looking.cancel()
    await server.stop(grace=1)
    ledger.close()
    return None


def _host_memory(settings: ServerSettings, d: int, vectors: int) -> int:
    """The bound on this server's memory beyond what an idle one takes, in bytes.

    A row of d float32 values per member; the model, both candidates, the running sum in float64 (two units) and what
    is serialised of them; what the rule declares, `vectors` of d values and its blocks; and what gRPC buffers for each
    upload.
    """
    buffers = upload_slots(settings) * UPLOAD_BUFFER_BYTES + BLOCK_BYTES
    return (len(settings.roster) + 8 + vectors) * 4 * d + buffers


def _check_address(settings: ServerSettings) -> None:
    host = settings.listen.rpartition(":")[0]
    if settings.tls is None:
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            raise OstrakonError(
                f"listen = {settings.listen!r} without certificates: without [tls] the server listens on loopback "
                "only, since anybody could then claim to be any worker. Give tls.ca, tls.certificate and tls.key"
            )
        log.warning(
            "NO CERTIFICATES: every process on this machine can claim to be any worker", address=settings.listen
        )


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> None:
    try:
        if settings.tls is None:
            server.add_insecure_port(settings.listen)
        else:
            credentials = RenewableCredentials(settings.tls, "server")
            for warning in credentials.current.warnings:
                log.warning(warning)
            server.add_secure_port(settings.listen, credentials.server_credentials())
    except RuntimeError:
        raise OstrakonError(
            f"address {settings.listen} cannot be served on: the port is taken by another process, or the address is "
            "not this machine's. Stop the other process or set listen (make up: PORT=) to a free one"
        ) from None


@contextmanager
def _lock(path: Path, address: str, *, take_over: bool) -> Iterator[None]:
    """Hold the run's lock, so that nobody starts a second server by mistake. It is no fence: the term is."""
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            if not take_over:
                raise OstrakonError(
                    f"the run in {path.parent} is served already, by {holder}: stop that server, or start this one "
                    "with --take-over if it no longer answers"
                ) from None
            log.warning("taking over", holder=holder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, at {address}\n")
        file.flush()
        yield
