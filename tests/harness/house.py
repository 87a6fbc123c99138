"""A server and its workers in one process: the real round logic on a fake network, clock, learner and metrics."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pytest
import torch

from ostrakon.common.aggregation import Rule, rule
from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Ballot
from ostrakon.common.clock import Clock, MonotonicClock
from ostrakon.common.digest import digest
from ostrakon.common.identity import Identity
from ostrakon.common.model_file import write_model
from ostrakon.common.wire import PROTOCOL, Vector
from ostrakon.server.core.aggregator import Aggregator
from ostrakon.server.core.commit import Offload
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.refusal import Refused
from ostrakon.server.life import Life
from ostrakon.server.rpc.answers import Send, judge
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.initial import Initial
from ostrakon.server.storage.ledger import Entry, Genesis, Ledger
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelStore
from ostrakon.server.storage.run import ModelLost
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.session import Session
from ostrakon.worker.submission import Submission
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import CallFailed
from tests.harness.driven_worker import DrivenWorker
from tests.harness.scenario import Impatient, inline

D = 3
INITIAL = "initial.safetensors"

T = TypeVar("T")


class Port:
    """Where a house answers. A house that is opened at another's port takes the calls from then on."""

    def __init__(self) -> None:
        self.house: House | Searching | None = None


class FakeTransport:
    """One caller's way to a port. As with gRPC, each call is a task of the server's and breaks when that dies."""

    def __init__(self, port: Port, caller: Identity) -> None:
        self.port = port
        self.caller = caller

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        async def answer(calls: Any) -> pb.JoinResponse:
            return calls.join(self.caller, request)

        return await self._call(answer)

    async def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        for part in await self._call(lambda calls: _all(partial(calls.broadcast, self.caller, request))):
            yield pb.ModelPart.FromString(part)

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        return await self.submit_parts(submission.parts())

    async def submit_parts(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        return await self._call(lambda calls: calls.submit(self.caller, parts))

    async def restore(self, model: Submission) -> pb.RestoreResponse:
        return await self.restore_parts(model.parts())

    async def restore_parts(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse:
        return await self._call(lambda calls: calls.restore(self.caller, parts))

    async def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        for part in await self._call(lambda calls: _all(partial(calls.propose, self.caller, request))):
            yield pb.ModelPart.FromString(part)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        return await self._call(lambda calls: calls.vote(self.caller, request))

    async def _call(self, answer: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        house = self.port.house
        if house is None:
            raise CallFailed("UNAVAILABLE", None, "nobody answers at this port")

        async def refuse(refusal: Refused) -> None:
            raise CallFailed(refusal.code.name, refusal.reason, str(refusal))

        judged = judge(house.calls, lambda: self.caller, lambda caller: answer(house.calls), refuse)
        task = asyncio.create_task(judged)
        house.serving.add(task)
        try:
            await asyncio.wait({task})
            if task.cancelled():
                raise CallFailed("UNAVAILABLE", None, "the connection broke")
            return task.result()
        finally:
            task.cancel()
            house.serving.discard(task)


async def _all(stream: Callable[[Send], Awaitable[None]]) -> list[bytes]:
    parts: list[bytes] = []

    async def send(part: bytes) -> None:
        parts.append(part)

    await stream(send)
    return parts


class Pull:
    """A learner whose gradient pulls theta toward a target; it votes for the nearer candidate."""

    def __init__(self, target: float, *, lie: Callable[[Vector], Vector] = lambda vector: vector) -> None:
        self.target = np.full(D, target, dtype=np.float32)
        self.lie = lie

    def begin(self, position: int, workers: int) -> None:
        pass

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        return Momentum(self.lie(theta - self.target), float(np.linalg.norm(theta - self.target)), True)

    def prepare(self, round: int, base: str, theta: Vector, taken: Step) -> None:
        pass

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        losses = [float(np.linalg.norm(theta - self.target)) for theta in (inner, outer)]
        return Ballot("outer" if losses[1] < losses[0] else "inner", *losses)


class Recorded:
    """Metrics in a list; results that nobody reads."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    def check(self, genesis: Genesis) -> None:
        pass

    def sweep(self) -> None:
        pass

    def write(self, coordinator: Coordinator) -> None:
        pass


class House:
    """One run's server side in a folder; open another in the same folder to restart the server, or to take over.

    `ledger` wraps the real one, `chosen` stands in for the settings' rule.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: Port | None = None,
        clock: Clock | None = None,
        ledger: Callable[[Ledger], Ledger] = lambda real: real,
        chosen: Rule | None = None,
        offload: Offload = inline,
        revoked: Callable[[], frozenset[Identity]] = frozenset,
        **settings: Any,
    ) -> None:
        if not (directory / INITIAL).exists():
            write_model(directory / INITIAL, np.zeros(D, dtype=np.float32), (("weight", (D,)),), {"task": "pull"})
        self.settings = server_settings(directory, **settings)
        self.ledger: Any = ledger(SqliteLedger(directory / "ledger.sqlite"))
        self.metrics = Recorded()
        life = life_of(
            self.settings,
            self.ledger,
            chosen=chosen,
            metrics=self.metrics,
            clock=clock or MonotonicClock(),
            offload=offload,
            revoked=revoked,
        )
        life.check()
        life.draw_term()
        self.coordinator = life.coordinator(life.open())
        self.calls = Calls(self.coordinator)
        self.serving: set[asyncio.Task[Any]] = set()
        self.running: asyncio.Task[str] | None = None
        self.port = port or Port()
        self.port.house = self

    def transport(self, worker: str, role: Any = "worker") -> FakeTransport:
        return FakeTransport(self.port, Identity(role, worker))

    def session(self, worker: str, learner: Any) -> Session:
        return Session("pull", D, learner, self.transport(worker), Impatient(), offload=inline)

    async def members(self) -> list["Member"]:
        """Everybody on the roster, joined and with the model."""
        members = [Member(self, name) for name in self.settings.roster]
        for member in members:
            await member.enter()
        return members

    async def run(self, *sessions: Session) -> list[str]:
        """Everybody to the end; returns the outcomes, the server's first."""
        return list(await asyncio.gather(self.start(), *(session.take_part() for session in sessions)))

    def start(self) -> asyncio.Task[str]:
        """Begin to decide rounds; the task ends as the server would."""
        self.running = asyncio.create_task(self.coordinator.run())
        return self.running

    def break_connections(self) -> None:
        """Every open call fails at its caller."""
        for task in self.serving:
            task.cancel()

    async def stop(self) -> None:
        """End as a killed server does: open calls break, and nobody is told anything more."""
        if self.port.house is self:
            self.port.house = None
        tasks = [*self.serving, *([self.running] if self.running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.ledger.close()

    def entry(self, round: int = 1) -> Entry:
        """The entry of a committed round."""
        found = self.ledger.entry(round)
        assert isinstance(found, Entry)
        return found

    def status(self) -> pb.StatusResponse:
        """Where the run stands, as an observer hears it."""
        return self.calls.status(Identity("observer", "watcher"), pb.StatusRequest(stamp=pb.Stamp(protocol=PROTOCOL)))

    @property
    def digest(self) -> str:
        return digest(self.coordinator.chain.theta)


class Searching:
    """A server whose model of the head is lost, as long as it looks for it; a house opens when it has found it."""

    def __init__(
        self,
        directory: Path,
        *,
        port: Port | None = None,
        clock: Clock | None = None,
        revoked: Callable[[], frozenset[Identity]] = frozenset,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.settings = server_settings(directory, **settings)
        self.port = port or Port()
        with closing(SqliteLedger(directory / "ledger.sqlite")) as ledger:
            life = life_of(self.settings, ledger, clock=clock or MonotonicClock(), revoked=revoked)
            life.draw_term()
            with pytest.raises(ModelLost) as found:
                life.open()
        self.lost = found.value
        self.calls = life.recovery(self.lost)
        self.serving: set[asyncio.Task[Any]] = set()
        self.port.house = self

    async def find(self, **settings: Any) -> House:
        """Wait for the model, and go on with it."""
        self.lost.found(await self.calls.theta())
        return House(self.directory, port=self.port, **settings)

    def transport(self, worker: str, role: Any = "worker") -> FakeTransport:
        return FakeTransport(self.port, Identity(role, worker))


def life_of(settings: ServerSettings, ledger: Ledger, *, chosen: Rule | None = None, **given: Any) -> Life:
    """The life of a server whose steps a test takes one by one."""
    chosen = chosen or rule(settings.rule)
    return Life(
        settings,
        chosen,
        Initial(settings.initial),
        ledger=ledger,
        store=ModelStore(settings.directory / "models"),
        aggregator=lambda d: Aggregator(chosen, len(settings.roster), d, torch.device("cpu"), settings.wire),
        **{"holder": "test", "results": Recorded(), "metrics": Recorded(), **given},
    )


def server_settings(directory: Path, **settings: Any) -> ServerSettings:
    values = {"task": "pull", "roster": ("a", "b", "c"), "f": 1, "gamma": 0.5, "rounds": 3, "rule": "Mean2P"}
    return ServerSettings(directory=directory, initial=directory / INITIAL, linger=5, **(values | settings))


def pulls(house: House) -> list[Session]:
    """Sessions of a, b and c, which never submit equal vectors."""
    return [house.session(name, Pull(target)) for name, target in (("a", 1.0), ("b", 1.3), ("c", 0.6))]


class Member(DrivenWorker):
    """A roster member driven call by call from a test."""

    def __init__(self, house: "House | Searching", name: str, session: str | None = None) -> None:
        self.name = name
        self.connection: Any = house.transport(name)
        self.session = session or f"session of {name}"
        self.run, self.term, self.round, self.base, self.d = "", 0, 0, "", D
        self.held: dict[str, Vector] = {}

    async def enter(self) -> Self:
        """Join and receive the model."""
        await self.join("pull", D)
        await self.receive()
        return self


class Upload:
    """An upload that stops after its first bytes until it is released."""

    def __init__(
        self,
        send: Callable[[AsyncIterator[pb.MomentumPart]], Coroutine[Any, Any, Any]],
        stamp: pb.Stamp,
        header: pb.MomentumHeader,
        first: bytes,
        last: bytes,
        *,
        stubborn: bool = False,
    ) -> None:
        """`stubborn`: it does not end when it is cancelled."""
        self.started, self.released = asyncio.Event(), asyncio.Event()
        self._stubborn = stubborn
        self._parts = [pb.MomentumPart(stamp=stamp, header=header)]
        self._parts += [
            pb.MomentumPart(stamp=stamp, chunk=pb.Chunk(offset=offset, data=data))
            for offset, data in ((0, first), (len(first), last))
        ]
        self.task = asyncio.create_task(send(self._send()))

    async def _send(self) -> AsyncIterator[pb.MomentumPart]:
        header, first, last = self._parts
        yield header
        yield first
        self.started.set()
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                if not self._stubborn:
                    raise
        if last.chunk.data:
            yield last


def vector(*values: float) -> Vector:
    """(D,) float32; one value stands for all of them."""
    return np.array(values if len(values) == D else values * D, dtype=np.float32)


# Vectors of which the rule makes two candidates, if it has to reckon with liars among those that came.
APART = {"a": vector(1.0), "b": vector(1.1), "c": vector(0.5), "d": vector(0.2), "e": vector(2.0)}


async def submit_all(members: list[Member]) -> None:
    """Everybody submits, so that there is something to vote on."""
    for member in members:
        await member.submit(np.resize(APART[member.name], D))


async def vote_all(members: list[Member], choice: pb.Choice = pb.CHOICE_INNER) -> list[pb.VoteResponse]:
    """Everybody asks for the candidates, votes, and hears what was committed."""
    for member in members:
        await member.candidates()
    return list(await asyncio.gather(*(member.vote(choice) for member in members)))


async def up_to_the_vote(house: House) -> list[asyncio.Task[pb.VoteResponse]]:
    """One round in which everybody has submitted and voted; the votes wait for their answer."""
    members = await house.members()
    await submit_all(members)
    for member in members:
        await member.candidates()
    return [asyncio.create_task(member.vote()) for member in members]
