"""A worker's calls, held before they reach the server until a scene says what becomes of each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.server.core.metrics import Traffic
from ostrakon.server.core.refusal import Refused
from ostrakon.server.rpc.answers import Send
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.quota import Quota
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.settings import ServerSettings
from ostrakon.v1 import parameter_server_pb2 as pb

T = TypeVar("T")
Change = Callable[[Any], None]  # to an answer, or to a part of one, before it is sent


class Call:
    """One call of the worker.

    Attributes:
        method: its name in the contract.
        request: what came; of an upload the first part.
        at: when, by the loop's time.
        refusal: the server's, once it is refused.
        answer: the server's, once there is one; a stream's is its first part.
        sending: set where a stream is about to send its first part.
        over: set when the caller was answered or refused, or is gone.
    """

    def __init__(self, method: str, request: Any) -> None:
        self.method, self.request = method, request
        self.at = asyncio.get_running_loop().time()
        self.refusal: Refused | None = None
        self.answer: Any = None
        self.sending, self.over = asyncio.Event(), asyncio.Event()
        self._told: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        self._may_send = asyncio.Event()

    @property
    def waits(self) -> bool:
        """Whether the caller is there, and nobody has said what becomes of it."""
        return not self._told.done() and not self.over.is_set()

    def let_through(self, change: Change = lambda answer: None, *, may_send: bool = True) -> None:
        """To the server; `may_send`: whether a stream may begin already."""
        if not self._told.done():
            self._told.set_result(change)
        if may_send:
            self._may_send.set()

    def refuse(self, refusal: Refused) -> None:
        """In the server's stead."""
        self._told.set_exception(refusal)

    async def judged(self, answer: Callable[[], Awaitable[T]]) -> T:
        """What the server says, once the call may reach it."""
        try:
            change = await self._told
            self.answer = found = await answer()
            change(found)
            return found
        except Refused as refusal:
            self.refusal = refusal
            raise
        finally:
            self.over.set()

    async def streamed(self, answer: Callable[[Send], Awaitable[None]], send: Send) -> None:
        """As `judged`, of a call whose answer comes in parts."""
        changes: list[Change] = []

        async def changed(raw: bytes) -> None:
            part = pb.ModelPart.FromString(raw)
            if self.answer is None:
                self.answer = pb.ModelPart.FromString(raw)
            changes[0](part)
            self.sending.set()
            await self._may_send.wait()
            await send(part.SerializeToString())

        try:
            changes.append(await self._told)
            await answer(changed)
        except Refused as refusal:
            self.refusal = refusal
            raise
        finally:
            self.over.set()


class Held:
    """Stands before a server's answers, whichever server it is; `Answers` of one worker and of nobody else.

    Attributes:
        behind: who answers what is let through.
        arrived: the calls, in their order. A Join does not wait: it is answered as `next_join` says.
    """

    def __init__(self, behind: Calls | Recovery) -> None:
        self.behind = behind
        self.arrived: asyncio.Queue[Call] = asyncio.Queue()
        self.next_join: Refused | Change | None = None

    @property
    def settings(self) -> ServerSettings:
        return self.behind.settings

    @property
    def traffic(self) -> Traffic:
        return self.behind.traffic

    @property
    def quota(self) -> Quota:
        return self.behind.quota

    @property
    def term(self) -> int:
        return self.behind.term

    @property
    def head_round(self) -> int:
        return self.behind.head_round

    def join(self, caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse:
        """Answer at once: what is to happen was said before."""
        said, self.next_join = self.next_join, None
        call = Call("Join", request)
        try:
            if isinstance(said, Refused):
                raise said
            call.answer = answer = self.behind.join(caller, request)
            if said is not None:
                said(answer)
            return answer
        except Refused as refusal:
            call.refusal = refusal
            raise
        finally:
            call.over.set()
            self.arrived.put_nowait(call)

    async def broadcast(self, caller: Identity, request: pb.BroadcastRequest, send: Send) -> None:
        """Hold it."""
        call = self._hold("Broadcast", request)
        await call.streamed(lambda bent: self.behind.broadcast(caller, request, bent), send)

    async def propose(self, caller: Identity, request: pb.ProposeRequest, send: Send) -> None:
        """Hold it."""
        call = self._hold("Propose", request)
        await call.streamed(lambda bent: self.behind.propose(caller, request, bent), send)

    async def submit(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        """Hold it with its header."""
        first = await anext(parts, pb.MomentumPart())
        call = self._hold("SubmitMomentum", first)
        return await call.judged(lambda: self.behind.submit(caller, _again(first, parts)))

    async def restore(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse:
        """Hold it with its header."""
        first = await anext(parts, pb.MomentumPart())
        call = self._hold("Restore", first)
        return await call.judged(lambda: self.behind.restore(caller, _again(first, parts)))

    async def vote(self, caller: Identity, request: pb.VoteRequest) -> pb.VoteResponse:
        """Hold it."""
        call = self._hold("Vote", request)
        return await call.judged(lambda: self.behind.vote(caller, request))

    def status(self, caller: Identity, request: pb.StatusRequest) -> pb.StatusResponse:
        """For whoever looks on."""
        return self.behind.status(caller, request)

    def refuse(self, caller: Identity | None, reason: Reason) -> None:
        """Count nothing: most refusals here are none of the server's."""

    def forget(self) -> None:
        """What has arrived, and what was said of the next Join."""
        self.arrived, self.next_join = asyncio.Queue(), None

    def _hold(self, method: str, request: Any) -> Call:
        call = Call(method, request)
        self.arrived.put_nowait(call)
        return call


async def _again(first: pb.MomentumPart, others: AsyncIterator[pb.MomentumPart]) -> AsyncIterator[pb.MomentumPart]:
    if first.ByteSize():
        yield first
    async for part in others:
        yield part
