"""The network between callers and servers: calls whose messages are late, lost, doubled and cut off.

As with gRPC, the messages of one direction of a call keep their order, a broken call is noticed at its two ends at
different times, and a caller that goes away is noticed by the server later. Whole calls overtake each other.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.refusal import Refused
from ostrakon.server.rpc.answers import judge
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.submission import Submission
from ostrakon.worker.transport import CallFailed
from tests.simulation.history import Chance, History
from tests.simulation.loop import Loop, Process

PATIENCE = 60.0  # seconds that a caller waits for an answer
WINDOW = 2  # parts that a server sends ahead of its reader
REQUESTS: dict[str, Any] = {
    "join": pb.JoinRequest,
    "broadcast": pb.BroadcastRequest,
    "submit": pb.MomentumPart,
    "restore": pb.MomentumPart,
    "propose": pb.ProposeRequest,
    "vote": pb.VoteRequest,
}


class Pipe:
    """Items in order, for one reader."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._items: deque[Any] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> Any:
        while not self._items:
            self._waiting = self._loop.create_future()
            await self._waiting
        return self._items.popleft()


class Served:
    """One server process, as the network knows it: where it answers, and who answers at present."""

    def __init__(self, process: Process, state: Coordinator | Recovery, calls: Calls | Recovery) -> None:
        self.process = process
        self.state = state
        self.calls = calls
        self.open: list[Call] = []


class Network:
    """Who reaches whom."""

    def __init__(
        self, loop: Loop, rng: Random, chance: Chance, history: History, hear: Callable[[Identity, str, Any], None]
    ) -> None:
        """`hear(caller, kind, message)` is told of every message that reaches a caller."""
        self.loop = loop
        self.rng = rng
        self.chance = chance
        self.history = history
        self.hear = hear
        self.routes: dict[str, Served | None] = {}  # by the caller's process
        self.unheard: set[str] = set()  # callers whose messages do not arrive
        self.deaf: set[str] = set()  # callers that no message reaches
        self.pace = 1.0
        self.crashed: Callable[[BaseException], None] = loop.crashed

    def latency(self, who: str) -> float:
        """Seconds that a message takes."""
        seconds = self.pace * self.rng.expovariate(200.0)
        if self.chance.strikes("message late", who):
            seconds += self.rng.choice((0.3, 3.0)) * self.rng.random()
        return seconds

    def break_calls(self, served: Served, client: Process | None = None) -> None:
        """Every open call of a server, or those of one client's, break."""
        for call in list(served.open):
            if client is None or call.client is client:
                call.broken()


class Way:
    """One direction of one call."""

    def __init__(self, call: "Call", hindered: set[str], deliver: Callable[[Any], None], fault: str) -> None:
        self._call = call
        self._hindered = hindered
        self._deliver = deliver
        self._fault = fault
        self._last = 0.0

    def send(self, item: Any) -> None:
        call, network = self._call, self._call.network
        if network.chance.strikes(self._fault, str(call)):
            call.broken()
            return
        self._last = max(self._last + 1e-6, network.loop.time() + network.latency(str(call)))
        network.loop.call_at(self._last, self._arrive, item, context=network.loop.world.context)

    def _arrive(self, item: Any) -> None:
        if self._call.over:
            return
        if self._call.client.name in self._hindered:
            self._call.broken()
            return
        self._deliver(item)


class Call:
    """One call, from its first message to its status."""

    def __init__(self, network: Network, client: Process, caller: Identity, kind: str) -> None:
        self.network = network
        self.client = client
        self.caller = caller
        self.kind = kind
        self.served = network.routes.get(client.name)
        self.over = False  # no message passes any more
        self.inbox = Pipe(network.loop)  # at the caller
        self._copies = [Copy(self, 0)]  # at the server
        if network.chance.strikes("call doubled", str(self)):
            self._copies.append(Copy(self, 1))
        up = "upload cut" if kind in ("submit", "restore") else "request lost"
        down = "models cut" if kind in ("broadcast", "propose") else "reply lost"
        self._up = [Way(self, network.unheard, copy.arrive, up) for copy in self._copies]
        self.down = Way(self, network.deaf, self.inbox.put, down)
        self._patience: asyncio.TimerHandle | None = None
        self.unread = 0
        self.room = asyncio.Event()
        if self.served is None or not self.served.process.alive:
            network.history.note(f"{self}: nobody answers")
            self.over = True
            self._fail_later("UNAVAILABLE", 0.05)
        else:
            network.history.note(f"{self}")
            self.served.open.append(self)
            self._patience = network.loop.call_later(PATIENCE, self._late, context=network.loop.world.context)

    def __str__(self) -> str:
        server = self.served.process.name if self.served is not None else "nobody"
        return f"{self.kind} of {self.client.name} to {server}"

    def say(self, raw: bytes | None) -> None:
        """Send one message to the server; None ends what is sent."""
        for way in self._up:
            if not self.over:
                way.send(raw)

    async def hear(self) -> bytes | None:
        """The server's next message; None at the end.

        Raises:
            CallFailed: the call was refused or broke.
        """
        item = await self.inbox.get()
        if isinstance(item, CallFailed):
            if not item.reason:
                self.network.history.note(f"{self}: {item.status}")
            raise item
        self.unread -= 1
        self.room.set()
        return item

    def leave(self) -> None:
        """The caller goes away, or has its answer."""
        self._detach(0.02)

    def broken(self) -> None:
        """Nothing passes any more; both ends notice, each when it does."""
        if not self.over:
            self._fail_later("UNAVAILABLE", self.network.rng.choice((0.1, 15.0)))
            self._detach(self.network.rng.choice((0.1, 30.0)))

    def _detach(self, within: float) -> None:
        if self.over:
            return
        self.over = True
        assert self.served is not None and self._patience is not None
        self.served.open.remove(self)
        self._patience.cancel()
        for copy in self._copies:
            seconds = self.network.rng.random() * within
            self.network.loop.call_later(seconds, copy.cancel, context=self.network.loop.world.context)

    def _fail_later(self, status: str, within: float) -> None:
        seconds = self.network.rng.random() * within
        error = CallFailed(status, None, "the connection broke")
        self.network.loop.call_later(seconds, self.inbox.put, error, context=self.network.loop.world.context)

    def _late(self) -> None:
        self._detach(0.1)
        self.inbox.put(CallFailed("DEADLINE_EXCEEDED", None, "the server did not answer in time"))


class Copy:
    """What reaches the server of a call; the second copy's answers reach nobody."""

    def __init__(self, call: Call, number: int) -> None:
        self._call = call
        self._number = number
        self._parts = Pipe(call.network.loop)
        self._task: asyncio.Task[None] | None = None

    def arrive(self, raw: bytes | None) -> None:
        """A message of the caller's; None: there are no more."""
        served = self._call.served
        assert served is not None
        if not served.process.alive:
            return
        if self._task is None:
            self._task = served.process.start(self._answer(served.calls))
        self._parts.put(raw)

    def cancel(self) -> None:
        """The server learns that the caller is gone."""
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, calls: Calls | Recovery) -> None:
        async def answer(caller: Identity) -> None:
            try:
                await self._serve(calls, caller)
                self._say(None)
            except OstrakonError as error:
                self._say(CallFailed("INTERNAL", Reason.INTERNAL_ERROR, str(error)))

        try:
            await judge(calls, lambda: self._call.caller, answer, self._refuse)
        except Exception as error:
            self._call.network.crashed(error)

    async def _refuse(self, refusal: Refused) -> None:
        call = self._call
        call.network.history.note(f"{call}: refused, {refusal.reason}", f"refused: {refusal.reason}")
        self._say(CallFailed(refusal.code.name, refusal.reason, str(refusal)))

    async def _serve(self, calls: Calls | Recovery, caller: Identity) -> None:
        kind = self._call.kind
        if kind in ("submit", "restore"):
            upload: Callable[..., Any] = calls.submit if kind == "submit" else calls.restore
            self._say((await upload(caller, self._uploaded())).SerializeToString())
            return
        request = REQUESTS[kind].FromString(await self._parts.get())
        if kind == "join":
            self._say(calls.join(caller, request).SerializeToString())
        elif kind == "vote":
            self._say((await calls.vote(caller, request)).SerializeToString())
        else:
            await (calls.broadcast if kind == "broadcast" else calls.propose)(caller, request, self._send)

    async def _uploaded(self) -> AsyncIterator[pb.MomentumPart]:
        while (raw := await self._parts.get()) is not None:
            yield pb.MomentumPart.FromString(raw)

    async def _send(self, part: bytes) -> None:
        call = self._call
        while self._number == 0 and call.unread >= WINDOW:
            call.room.clear()
            await call.room.wait()
        self._say(part)
        await asyncio.sleep(0)

    def _say(self, item: Any) -> None:
        if self._number == 0 and not self._call.over:
            self._call.unread += 1
            self._call.down.send(item)


class Line:
    """One caller's way to whatever server it reaches: a `worker.transport.Transport`."""

    def __init__(self, network: Network, process: Process, caller: Identity, said: Callable[..., None]) -> None:
        """`said(caller, message, data)` is told of everything sent, with the bytes of a whole upload."""
        self._network = network
        self._process = process
        self._caller = caller
        self._said = said

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        return await self._unary("join", request, pb.JoinResponse)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        return await self._unary("vote", request, pb.VoteResponse)

    def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        return self._stream("broadcast", request)

    def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        return self._stream("propose", request)

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        return await self.submit_parts(submission.parts())

    async def submit_parts(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        return await self._uploading("submit", parts, pb.SubmitMomentumResponse)

    async def restore(self, model: Submission) -> pb.RestoreResponse:
        return await self.restore_parts(model.parts())

    async def restore_parts(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse:
        return await self._uploading("restore", parts, pb.RestoreResponse)

    async def _uploading(self, kind: str, parts: AsyncIterator[pb.MomentumPart], answer: Any) -> Any:
        call = Call(self._network, self._process, self._caller, kind)
        sending = self._process.start(self._upload(call, parts))
        try:
            return await self._answer(call, answer)
        finally:
            sending.cancel()
            call.leave()

    async def _upload(self, call: Call, parts: AsyncIterator[pb.MomentumPart]) -> None:
        data = bytearray()
        header: pb.MomentumPart | None = None
        async for part in parts:
            if part.WhichOneof("part") == "header":
                header = part
            elif header is not None:
                data += part.chunk.data
            if header is not None and call.kind == "submit":
                self._said(self._caller, header, bytes(data))
            call.say(part.SerializeToString())
            await asyncio.sleep(self._network.latency(str(call)))
        call.say(None)

    async def _unary(self, kind: str, request: Any, answer: Any) -> Any:
        call = Call(self._network, self._process, self._caller, kind)
        try:
            self._said(self._caller, request, b"")
            call.say(request.SerializeToString())
            return await self._answer(call, answer)
        finally:
            call.leave()

    async def _answer(self, call: Call, answer: Any) -> Any:
        raw = await call.hear()
        assert raw is not None
        message = answer.FromString(raw)
        self._network.hear(self._caller, call.kind, message)
        return message

    async def _stream(self, kind: str, request: Any) -> AsyncIterator[pb.ModelPart]:
        call = Call(self._network, self._process, self._caller, kind)
        try:
            call.say(request.SerializeToString())
            while (raw := await call.hear()) is not None:
                part = pb.ModelPart.FromString(raw)
                if part.HasField("header"):
                    self._network.hear(self._caller, kind, part)
                yield part
        finally:
            call.leave()
