"""The run's server in this process, as a host has it: it dies, is started again, is taken over, loses its model."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc
import torch

from ostrakon.common.aggregation import rule
from ostrakon.common.clock import ManualClock
from ostrakon.common.run_files import LEDGER, METRICS, MODELS
from ostrakon.deploy.conformance.calls import Held
from ostrakon.deploy.conformance.companions import Companions
from ostrakon.server.core.aggregator import Aggregator
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.metrics import MetricsFile
from ostrakon.server.life import Life
from ostrakon.server.process import ResultFiles
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.listening import listening
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.rpc.service import Front, Service
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.initial import Initial
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelStore

T = TypeVar("T")


class Server:
    """One run's server, life after life.

    Attributes:
        held: what stands between it and the worker.
        state: decides the rounds of this life.
        companions: the other members, joined.
        failed: set when a life ends that nobody has ended; `failure` says of what.
    """

    held: Held
    state: Coordinator
    companions: Companions

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None
        # Stands still until a scene lets time pass: how long a worker takes never decides a round.
        self._clock = ManualClock()
        self._front = Front()
        self._port: grpc.aio.Server | None = None
        self._life: asyncio.Task[Any] | None = None
        self._ledger: SqliteLedger | None = None
        self._metrics: MetricsFile | None = None
        self._answers, self._decides = asyncio.Event(), asyncio.Event()
        self._away: list[tuple[Path, Path]] = []  # files that are lost: where they are, where they were

    async def begin(self, **changes: Any) -> None:
        """A new life, which decides rounds at once; `changes` of settings.

        Raises:
            OstrakonError: the address, the certificate or the initial model cannot be used.
        """
        await self._live(self._decides, changes)

    def pass_grace(self) -> None:
        """Nobody is waited for any more who has not sent a momentum yet."""
        self._clock.advance(self.settings.join_timeout + self.settings.grace_floor)

    async def restart(self, **changes: Any) -> None:
        """Die as a killed process does, and begin again: connections break, sessions and the round's rows are gone."""
        await self.end()
        await self.begin(**changes)

    async def another_run(self, name: str, **changes: Any) -> None:
        """Die, and begin with a run of another name; the first one is gone on with after the next restart."""
        await self.restart(directory=self.settings.directory / name, **changes)

    async def take_over(self) -> None:
        """Another server takes the run over, and the calls too: no connection breaks."""
        await self._die()
        await self.begin()

    async def restart_without_model(self) -> None:
        """Die, lose the file of the committed model, and begin to look for it."""
        key = self.state.chain.key
        await self.end()
        path = ModelStore(self.settings.directory / MODELS).path(key)
        self._away.append((path.with_suffix(".lost"), path))
        path.rename(path.with_suffix(".lost"))
        await self._live(self._answers, {})

    def put_back(self) -> None:
        """Whatever was lost."""
        while self._away:
            away, path = self._away.pop()
            away.replace(path)

    async def end(self) -> None:
        """Die: nobody is told anything any more."""
        if self._port is not None:
            await self._port.stop(None)
            self._port = None
        await self._die()

    async def _die(self) -> None:
        if self._life is not None:
            self._life.cancel()
            with suppress(asyncio.CancelledError):
                await self._life
        for file in (self._ledger, self._metrics):
            if file is not None:
                file.close()

    async def _live(self, until: asyncio.Event, changes: dict[str, Any]) -> None:
        settings = self.settings.model_copy(update=changes)
        chosen = rule(settings.rule)
        self._answers.clear()
        self._decides.clear()
        settings.directory.mkdir(exist_ok=True)
        self._ledger = SqliteLedger(settings.directory / LEDGER)
        self._metrics = MetricsFile(settings.directory / METRICS)
        life = Life(
            settings,
            chosen,
            Initial(settings.initial),
            holder="conformance",
            ledger=self._ledger,
            store=ModelStore(settings.directory / MODELS),
            results=ResultFiles(settings.directory),
            metrics=self._metrics,
            clock=self._clock,
            aggregator=lambda d: Aggregator(chosen, len(settings.roster), d, torch.device("cpu"), settings.wire),
            offload=_at_once,
        )
        self._life = asyncio.create_task(life.live(self._serve, asyncio.Event()))
        self._life.add_done_callback(self._over)
        waiting = asyncio.create_task(until.wait())
        await asyncio.wait({self._life, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._life.done():
            self._life.result()
        if self._port is None:
            self._port = listening(self.settings)
            self._port.add_generic_rpc_handlers((self._front,))
            await self._port.start()

    def _over(self, life: asyncio.Task[Any]) -> None:
        if not life.cancelled() and (failure := life.exception()) is not None:
            self.failure = failure
            self.failed.set()

    async def _serve(self, state: Coordinator | Recovery, answers: Calls | Recovery) -> None:
        if hasattr(self, "held"):
            self.held.behind = answers
        else:
            self.held = Held(answers)
            self._front.answering = Service(self.held, secure=True)
        if isinstance(state, Coordinator) and isinstance(answers, Calls):
            self.state, self.companions = state, Companions(state, answers)
            self._decides.set()
        self._answers.set()


async def _at_once(function: Callable[..., T], *arguments: Any) -> T:
    """Blocking work done on the spot: a life that ends leaves no thread behind that still writes."""
    return function(*arguments)
