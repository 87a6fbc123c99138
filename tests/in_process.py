"""A server and its workers in one process: the real round logic on a fake transport, clock, learner and metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.aggregation import rule
from common.clock import MonotonicClock
from common.digest import digest
from common.identity import Identity
from common.model_file import write_model
from common.settings import ServerSettings
from common.wire import Vector
from protos.ostrakon.v1 import parameter_server_pb2 as pb
from server.aggregator import Aggregator
from server.calls import Calls
from server.coordinator import Coordinator
from server.ledger.sqlite import SqliteLedger
from server.model_store import ModelStore
from server.opening import open_run
from server.refusal import Refused
from worker.session import Session
from worker.training import Momentum
from worker.transport import CallFailed
from worker.voting import Ballot

D = 3


class FakeTransport:
    """Calls the server's answers directly, as one caller."""

    def __init__(self, calls: Calls, caller: Identity) -> None:
        self.calls = calls
        self.caller = caller

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        with self._refusals():
            return self.calls.join(self.caller, request)

    async def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        with self._refusals():
            async for part in self.calls.broadcast(self.caller, request):
                yield pb.ModelPart.FromString(part)

    async def submit(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        with self._refusals():
            return await self.calls.submit(self.caller, parts)

    async def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        with self._refusals():
            async for part in self.calls.propose(self.caller, request):
                yield pb.ModelPart.FromString(part)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        with self._refusals():
            return await self.calls.vote(self.caller, request)

    def _refusals(self) -> "_Refusals":
        return _Refusals(self)


class _Refusals:
    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Refused):
            self.transport.calls.refuse(self.transport.caller, error.reason)
            raise CallFailed(error.code.name, error.reason, str(error)) from None


class Pull:
    """A learner whose gradient pulls theta toward a target; it votes for the nearer candidate."""

    def __init__(self, target: float, *, lie: Callable[[Vector], Vector] = lambda vector: vector) -> None:
        self.target = np.full(D, target, dtype=np.float32)
        self.lie = lie

    def begin(self, position: int, workers: int) -> None:
        pass

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        return Momentum(self.lie(theta - self.target), float(np.linalg.norm(theta - self.target)), True)

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        losses = [float(np.linalg.norm(theta - self.target)) for theta in (inner, outer)]
        return Ballot("outer" if losses[1] < losses[0] else "inner", *losses)


class Recorded:
    """Metrics in a list."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, **values: Any) -> None:
        self.events.append((event, values))


class House:
    """One run's server side in a folder; `open` it again to restart the server."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        initial = directory / "initial.safetensors"
        if not initial.exists():
            write_model(initial, np.zeros(D, dtype=np.float32), (("weight", (D,)),), {"task": "pull"})
        values = {"task": "pull", "roster": ("a", "b", "c"), "f": 1, "gamma": 0.5, "rounds": 3, "rule": "Mean2P"}
        self.settings = ServerSettings(directory=directory, initial=initial, linger=5, **(values | settings))
        self.ledger = SqliteLedger(directory / "ledger.sqlite")
        self.metrics = Recorded()
        run = open_run(self.settings, self.ledger, ModelStore(directory / "models"))
        chosen = rule(self.settings.rule)
        self.coordinator = Coordinator(
            self.settings,
            run,
            self.ledger.draw_term("test"),
            two_phase=chosen.two_phase,
            ledger=self.ledger,
            store=ModelStore(directory / "models"),
            aggregator=Aggregator(chosen, len(self.settings.roster), D, torch.device("cpu")),
            clock=MonotonicClock(),
            metrics=self.metrics,
        )
        self.calls = Calls(self.coordinator)

    def transport(self, worker: str, role: Any = "worker") -> FakeTransport:
        return FakeTransport(self.calls, Identity(role, worker))

    def session(self, worker: str, learner: Any) -> Session:
        return Session("pull", D, learner, self.transport(worker), MonotonicClock())

    async def run(self, *sessions: Session) -> list[str]:
        """Everybody to the end; returns the outcomes, the server's first."""
        return list(await asyncio.gather(self.coordinator.run(), *(session.take_part() for session in sessions)))

    @property
    def digest(self) -> str:
        return digest(self.coordinator.theta)
