"""gRPC in and out: bytes to messages, certificates to identities, refusals to statuses. No decisions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from common.errors import OstrakonError
from common.identity import Identity, identity_of, parse
from common.wire import IDENTITY_KEY, REASON_KEY, ROUND_KEY, TERM_KEY
from protos.ostrakon.v1 import parameter_server_pb2 as pb
from server.calls import Send
from server.metrics import Traffic
from server.open_calls import OpenCalls
from server.refusal import Code, Refused

SERVICE = pb.DESCRIPTOR.services_by_name["ParameterServer"].full_name

M = TypeVar("M", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]


class Standing(Protocol):
    """Where a server stands, and what it counts."""

    traffic: Traffic

    @property
    def term(self) -> int: ...
    @property
    def head_round(self) -> int: ...


class Answers(Protocol):
    """Answers to calls; `server.calls` says what they mean."""

    open_calls: OpenCalls

    def join(self, caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse: ...
    async def broadcast(self, caller: Identity, request: pb.BroadcastRequest, send: Send) -> None: ...
    async def submit(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse: ...
    async def restore(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse: ...
    async def propose(self, caller: Identity, request: pb.ProposeRequest, send: Send) -> None: ...
    async def vote(self, caller: Identity, request: pb.VoteRequest) -> pb.VoteResponse: ...
    def status(self, caller: Identity, request: pb.StatusRequest) -> pb.StatusResponse: ...
    def refuse(self, caller: Identity | None, reason: str) -> None: ...


class Front(grpc.GenericRpcHandler):
    """What is registered with a gRPC server, which must be started before it is known who answers in the end."""

    def __init__(self) -> None:
        self.answering: grpc.GenericRpcHandler | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call; None, for nobody, before the first one answers."""
        return None if self.answering is None else self.answering.service(handler_call_details)


class Service:
    """Serves one coordinator's calls, or those that come while its model is recovered."""

    def __init__(self, coordinator: Standing, calls: Answers, *, secure: bool) -> None:
        """`secure`: identities come from certificates; otherwise (loopback only) from a metadata header."""
        self._coordinator = coordinator
        self._calls = calls
        self._secure = secure

    def handler(self) -> grpc.GenericRpcHandler:
        """Everything to register with a gRPC server; messages are parsed and serialised in here."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Join": grpc.unary_unary_rpc_method_handler(self._unary(pb.JoinRequest, self._join)),
                "Broadcast": grpc.unary_stream_rpc_method_handler(
                    self._stream(pb.BroadcastRequest, self._calls.broadcast)
                ),
                "SubmitMomentum": grpc.stream_unary_rpc_method_handler(self._upload(self._calls.submit)),
                "Restore": grpc.stream_unary_rpc_method_handler(self._upload(self._calls.restore)),
                "Propose": grpc.unary_stream_rpc_method_handler(self._stream(pb.ProposeRequest, self._calls.propose)),
                "Vote": grpc.unary_unary_rpc_method_handler(self._unary(pb.VoteRequest, self._calls.vote)),
                "Status": grpc.unary_unary_rpc_method_handler(self._unary(pb.StatusRequest, self._status)),
            },
        )

    async def _join(self, caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse:
        return self._calls.join(caller, request)

    async def _status(self, caller: Identity, request: pb.StatusRequest) -> pb.StatusResponse:
        return self._calls.status(caller, request)

    def _unary(
        self, kind: type[M], answer: Callable[[Identity, M], Awaitable[Message]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def call(raw: bytes, context: Context) -> bytes:
            caller: Identity | None = None
            try:
                caller = self._caller(context)
                with self._calls.open_calls.admit(caller):
                    request = self._parse(kind, raw, caller)
                    return self._sent((await answer(caller, request)).SerializeToString(), caller)
            except Refused as refusal:
                await self._refuse(context, caller, refusal)

        return call

    def _stream(
        self, kind: type[M], answer: Callable[[Identity, M, Send], Awaitable[None]]
    ) -> Callable[[bytes, Context], Awaitable[None]]:
        async def call(raw: bytes, context: Context) -> None:
            caller: Identity | None = None
            try:
                caller = self._caller(context)
                with self._calls.open_calls.admit(caller):
                    # Before anything can cancel a first write: gRPC would then try to send this twice, fail, and leave
                    # the caller without a status until its deadline.
                    await context.send_initial_metadata(())
                    await answer(
                        caller,
                        self._parse(kind, raw, caller),
                        lambda part: context.write(self._sent(part, caller)),
                    )
            except Refused as refusal:
                await self._refuse(context, caller, refusal)

        return call

    def _upload(
        self, answer: Callable[[Identity, AsyncIterator[pb.MomentumPart]], Awaitable[Message]]
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        async def call(raw_parts: AsyncIterator[bytes], context: Context) -> bytes:
            caller: Identity | None = None
            try:
                caller = self._caller(context)
                with self._calls.open_calls.admit(caller):
                    response = await answer(caller, self._parts(raw_parts, caller))
                    return self._sent(response.SerializeToString(), caller)
            except Refused as refusal:
                await self._refuse(context, caller, refusal)

        return call

    async def _parts(self, raw_parts: AsyncIterator[bytes], caller: Identity) -> AsyncIterator[pb.MomentumPart]:
        async for raw in raw_parts:
            yield self._parse(pb.MomentumPart, raw, caller)

    def _caller(self, context: Context) -> Identity:
        if self._secure:
            identity = identity_of(context.auth_context())
            if identity is None:
                raise Refused(
                    Code.UNAUTHENTICATED,
                    "no identity",
                    "expected a certificate with one URI urn:ostrakon:ROLE:ID among its alternative names",
                )
            return identity
        claimed = dict(context.invocation_metadata() or ()).get(IDENTITY_KEY, "")
        try:
            return parse(str(claimed))
        except OstrakonError as error:
            raise Refused(Code.UNAUTHENTICATED, "no identity", str(error)) from None

    def _parse(self, kind: type[M], raw: bytes, caller: Identity) -> M:
        # In the handler, not in a deserializer: there a parse error would reach the caller as UNKNOWN.
        if caller.role == "worker":
            self._coordinator.traffic.received += len(raw)
        try:
            return kind.FromString(raw)
        except DecodeError:
            raise Refused(Code.INVALID_ARGUMENT, "not a message", f"expected a {kind.__name__}") from None

    def _sent(self, raw: bytes, caller: Identity) -> bytes:
        if caller.role == "worker":
            self._coordinator.traffic.sent += len(raw)
        return raw

    async def _refuse(self, context: Context, caller: Identity | None, refusal: Refused) -> NoReturn:
        self._calls.refuse(caller, refusal.reason)
        await context.abort(
            grpc.StatusCode[refusal.code.name],
            str(refusal),
            trailing_metadata=(
                (REASON_KEY, refusal.reason),
                (TERM_KEY, str(self._coordinator.term)),
                (ROUND_KEY, str(self._coordinator.head_round + 1)),
            ),
        )
        raise AssertionError("abort raises")
