"""Taking part in a run from a loop of one's own."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from torch import nn

from ostrakon.common.choice import Outcome
from ostrakon.common.clock import MonotonicClock
from ostrakon.common.command import quiet_grpc
from ostrakon.common.errors import OstrakonError
from ostrakon.common.runtime import quiet_log
from ostrakon.common.settings import TlsFiles, build
from ostrakon.common.wire import Vector
from ostrakon.worker.embedded.model import LocalModel, ModuleModel, VectorModel, read_only
from ostrakon.worker.embedded.network_thread import NetworkThread
from ostrakon.worker.embedded.round import AsyncRound, Round
from ostrakon.worker.embedded.settings import OWN, EmbeddedSettings
from ostrakon.worker.introduction import introduction
from ostrakon.worker.rounds import Rounds
from ostrakon.worker.settings import SERVER_TIMEOUT

log = structlog.get_logger()

T = TypeVar("T")


class Worker:
    """A member of a run's roster, whose rounds are iterated over: it trains and votes as the loop's body says.

        with Worker(model, server="ps.example.org:7433", tls=files) as worker:
            for round in worker:                                # the committed model is in `model` now
                loss_of(model, next(batches)).backward()
                round.submit()
                round.vote(partial(loss_of, model, next(others)))

    A round in which the body submits nothing counts as missed. The loop ends with the run; `model` then holds the last
    committed model. `async with` and `async for` do the same in an event loop, with rounds whose methods are awaited.

    Args:
        model: any module, on any device. Without one, give `parameters`, and each round a vector.
        parameters: d, how many values theta has, where there is no model.
        server: its address, HOST:PORT.
        tls: the files `ca`, `certificate` and `key` of this worker.
        id: who this is where there is no certificate, on loopback only.
        task: as the server's settings say it.
        beta: momentum coefficient, of gradients that are folded.
        server_timeout: seconds that a server is waited for which does not answer.

    Raises:
        OstrakonError: one of these cannot be used. So do entering it and the loop, where the server does not let this
            worker in, or it cannot go on.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        server: str,
        parameters: int | None = None,
        tls: TlsFiles | Mapping[str, str | Path] | None = None,
        id: str | None = None,
        task: str = OWN,
        beta: float = 0.9,
        server_timeout: float = SERVER_TIMEOUT,
    ) -> None:
        quiet_log()
        given = {"server": server, "id": id, "task": task, "beta": beta, "server_timeout": server_timeout}
        files = dict(tls) if isinstance(tls, Mapping) else tls
        self._settings = build(EmbeddedSettings, given | {"tls": files}, source="Worker")
        self._model = _local_model(model, parameters, self._settings.beta)
        self._stack = AsyncExitStack()
        self._network: NetworkThread | None = None
        self._in_loop = False  # the caller's own
        self._rounds: Rounds | None = None

    @property
    def position(self) -> int:
        """This worker's index in the roster, from 0."""
        return self._seat().place.position

    @property
    def workers(self) -> int:
        """n, how many are on the roster."""
        return self._seat().place.workers

    @property
    def rounds(self) -> int:
        """The run ends after this round."""
        return self._seat().place.rounds

    @property
    def outcome(self) -> Outcome | None:
        """How the run has ended; None while it has not, as far as this worker knows."""
        return self._seat().outcome

    @property
    def theta(self) -> Vector:
        """The committed model that came last, (d,) float32, read-only."""
        return read_only(self._seat().theta)

    def __enter__(self) -> Self:
        self._network = NetworkThread()
        try:
            self._network.call(self._join())
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __iter__(self) -> Iterator[Round]:
        rounds = self._seat()
        if self._network is None:
            raise OstrakonError("a `for` over rounds needs a worker in its `with`")
        while (begun := self._call(rounds.next())) is not None:
            self._model.begin(begun.theta)
            yield Round(begun, rounds, self._model, self._call)
        self._model.begin(rounds.theta)

    async def __aenter__(self) -> Self:
        try:
            await self._join()
        except BaseException:
            await self._stack.aclose()
            raise
        self._in_loop = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_loop = False
        await self._stack.aclose()

    async def __aiter__(self) -> AsyncIterator[AsyncRound]:
        rounds = self._seat()
        if not self._in_loop:
            raise OstrakonError("an `async for` over rounds needs a worker in its `async with`")
        while (begun := await rounds.next()) is not None:
            self._model.begin(begun.theta)
            yield AsyncRound(begun, rounds, self._model)
        self._model.begin(rounds.theta)

    async def _join(self) -> None:
        quiet_grpc()
        from ostrakon.worker.connection import Connection  # gRPC starts here: a process forks well before, ill after

        settings, model = self._settings, self._model
        connection = Connection(settings.server, "worker", tls=settings.tls, id=settings.id)
        await self._stack.enter_async_context(connection)
        for warning in connection.warnings:
            log.warning(warning)
        self._rounds = Rounds(
            introduction(settings.task, model.parameters, model.layout, model.constants),
            connection,
            MonotonicClock(),
            take_place=_any_place,
            server_timeout=settings.server_timeout,
            diagnose=connection.handshake_failure,
            offload=asyncio.to_thread,
        )
        await self._rounds.join()

    def _leave(self) -> None:
        network, self._network = self._network, None
        if network is not None:
            try:
                network.call(self._stack.aclose())
            finally:
                network.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._network is None:
            work.close()
            raise OstrakonError("this worker has left the run")
        return self._network.call(work)

    def _seat(self) -> Rounds:
        if self._rounds is None:
            raise OstrakonError("this worker has not joined the run: use it in a `with`")
        return self._rounds


async def _any_place(position: int, workers: int) -> None:
    """Whichever place it is, the loop has its data."""


def _local_model(model: nn.Module | None, parameters: int | None, beta: float) -> LocalModel:
    if isinstance(model, nn.Module) and parameters is None:
        return ModuleModel(model, beta)
    if model is None and isinstance(parameters, int) and parameters > 0:
        return VectorModel(parameters)
    raise OstrakonError(
        "a worker needs a model, which is a torch.nn.Module, or without one parameters = d, how many values theta has"
    )
