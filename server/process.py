"""One server process, from its settings to its end.

It starts in this order: take the run's lock, bind the port, draw a larger term, answer.
"""

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import structlog
import uvloop

from ostrakon.common.aggregation import Rule, rule
from ostrakon.common.clock import Clock, MonotonicClock
from ostrakon.common.device import resolve_device
from ostrakon.common.identity.revocation import revocation_list
from ostrakon.common.lifetime import stop_event
from ostrakon.common.model_file import write_model
from ostrakon.common.run_files import AVERAGE, LAST, LEDGER, METRICS, MODELS
from ostrakon.common.runtime import name_thread, prepare, process_age, run_to_exit, start_log
from ostrakon.common.safetensors_file import sweep
from ostrakon.common.settings import read
from ostrakon.server.core.aggregator import Aggregator
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.metrics import MetricsFile
from ostrakon.server.core.revocation import Revocations
from ostrakon.server.life import Life
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.listening import check_address, host_memory, listening
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.rpc.service import Front, Service
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.initial import Initial
from ostrakon.server.storage.ledger import Genesis
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.lock import locked
from ostrakon.server.storage.lost_ledger import check_ledger_is_there
from ostrakon.server.storage.model_store import ModelStore, stored_fixed_part
from ostrakon.server.storage.parentage import metadata_of

log = structlog.get_logger()

LOCK = "server.lock"
FILES = "files"  # name of the threads that read, write and hash


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
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(None, FILES, name_thread, (FILES,)))
    stop = stop_event(loop)
    server = listening(settings)
    front = Front()
    server.add_generic_rpc_handlers((front,))

    async def answer(state: Coordinator | Recovery, answers: Calls | Recovery) -> None:
        nobody_before = front.answering is None
        front.answering = Service(answers, secure=settings.tls is not None)
        if nobody_before:
            await server.start()

    initial, store = Initial(settings.initial), ModelStore(settings.directory / MODELS)
    check_ledger_is_there(settings.directory, store, initial)
    with (
        closing(SqliteLedger(settings.directory / LEDGER)) as ledger,
        closing(MetricsFile(settings.directory / METRICS)) as metrics,
    ):
        life = Life(
            settings,
            chosen,
            initial,
            holder=f"{socket.gethostname()} process {os.getpid()}",
            ledger=ledger,
            store=store,
            results=ResultFiles(settings.directory),
            metrics=metrics,
            clock=clock,
            aggregator=lambda parameters: _aggregator(settings, chosen, parameters),
            revoked=frozenset if settings.tls is None else Revocations(revocation_list(settings.tls)),
            started=started,
        )
        try:
            await life.live(answer, stop)
        finally:
            await server.stop(grace=1)


def _aggregator(settings: ServerSettings, chosen: Rule, parameters: int) -> Aggregator:
    device = resolve_device(settings.device)
    own = chosen.cost.vectors(len(settings.roster), settings.f) if device.type == "cpu" else 0
    log.info("host memory", at_most_bytes=host_memory(settings, parameters, own), rule=chosen.cost.memory)
    return Aggregator(chosen, len(settings.roster), parameters, device, settings.wire)


class ResultFiles:
    """The last model and the average, as files that other programs read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def check(self, genesis: Genesis) -> None:
        """Read what is to be written beside theta.

        Raises:
            OstrakonError: it is missing or damaged.
        """
        stored_fixed_part(self._directory, genesis.constants)

    def sweep(self) -> None:
        """Delete temporary files that have grown old."""
        sweep(self._directory)

    def write(self, coordinator: Coordinator) -> None:
        """Write both.

        Raises:
            OstrakonError: there is no space left, or the folder cannot be written.
        """
        genesis = coordinator.chain.genesis
        metadata = metadata_of(genesis, coordinator.chain.head)
        fixed = stored_fixed_part(self._directory, genesis.constants)
        write_model(self._directory / LAST, coordinator.chain.theta, genesis.layout, metadata, fixed)
        # The average is no committed model: a run that begins from it has no parent.
        anonymous = {name: value for name, value in metadata.items() if name != "head"}
        write_model(self._directory / AVERAGE, coordinator.chain.average(), genesis.layout, anonymous, fixed)
