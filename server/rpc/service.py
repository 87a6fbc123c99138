"""gRPC in and out: bytes to messages, certificates to identities, refusals to statuses. No decisions.

Every method is registered as one that receives a stream. A caller's identity and its share of calls are then judged
before its message is read: gRPC reads the message of any other method first, for whoever sends it, and waits for it as
long as it takes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity, identity_of, parse
from ostrakon.common.reasons import Reason, to_wire
from ostrakon.common.wire import ADMITTED_KEY, IDENTITY_KEY, REFUSAL_KEY
from ostrakon.server.core.refusal import Refused
from ostrakon.server.rpc.answers import Answers, Send, judge
from ostrakon.v1 import parameter_server_pb2 as pb

log = structlog.get_logger()

SERVICE = pb.DESCRIPTOR.services_by_name["ParameterServer"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

LONGEST_MESSAGE = 8 << 10  # bytes, of every message that carries no chunk: the server may keep it while a call waits
LONGEST_JOIN = 64 << 10  # bytes: it names a model's parameters, and is answered at once
LONGEST_SENTENCE = 500  # characters: they travel in the trailers, percent-encoded, and clients take 8 KiB of those

M = TypeVar("M", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Answer = Callable[[Identity, AsyncIterator[bytes], Context], Awaitable[bytes | None]]


class Front(grpc.GenericRpcHandler):
    """What is registered with a gRPC server, which must be started before it is known who answers in the end."""

    def __init__(self) -> None:
        self.answering: grpc.GenericRpcHandler | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call; None, for nobody, before the first one answers."""
        return None if self.answering is None else self.answering.service(handler_call_details)


class Service(grpc.GenericRpcHandler):
    """Serves one coordinator's calls, or those that come while its model is recovered, and standard health checks."""

    def __init__(self, answers: Answers, *, secure: bool) -> None:
        """`secure`: identities come from certificates; otherwise (loopback only) from a metadata header."""
        self._answers = answers
        self._secure = secure
        self._methods: dict[str, Handler] = {
            f"/{SERVICE}/Join": self._unary(pb.JoinRequest, self._join, LONGEST_JOIN),
            f"/{SERVICE}/Broadcast": self._stream(pb.BroadcastRequest, answers.broadcast),
            f"/{SERVICE}/SubmitMomentum": self._upload(answers.submit),
            f"/{SERVICE}/Restore": self._upload(answers.restore),
            f"/{SERVICE}/Propose": self._stream(pb.ProposeRequest, answers.propose),
            f"/{SERVICE}/Vote": self._unary(pb.VoteRequest, answers.vote),
            f"/{SERVICE}/Status": self._unary(pb.StatusRequest, self._status),
            f"/{HEALTH}/Check": self._unary(health_pb2.HealthCheckRequest, self._check_health),
            f"/{HEALTH}/Watch": self._stream(health_pb2.HealthCheckRequest, self._watch_health),
        }
        self._unknown: Handler = grpc.stream_unary_rpc_method_handler(self._judged(_no_method))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The handler of a method, for gRPC; messages are parsed and serialised inside."""
        return self._methods.get(str(handler_call_details.method), self._unknown)

    async def _join(self, caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse:
        return self._answers.join(caller, request)

    async def _status(self, caller: Identity, request: pb.StatusRequest) -> pb.StatusResponse:
        return self._answers.status(caller, request)

    async def _check_health(
        self, caller: Identity, request: health_pb2.HealthCheckRequest
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in ("", SERVICE):
            raise Refused(Reason.NO_SUCH_SERVICE, f"expected {SERVICE} or nothing")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def _watch_health(self, caller: Identity, request: health_pb2.HealthCheckRequest, send: Send) -> None:
        await send((await self._check_health(caller, request)).SerializeToString())
        await asyncio.Event().wait()  # nothing changes until the connection ends

    def _unary(
        self, kind: type[M], answer: Callable[[Identity, M], Awaitable[Message]], longest: int = LONGEST_MESSAGE
    ) -> Handler:
        async def answered(caller: Identity, raw: AsyncIterator[bytes], context: Context) -> bytes:
            request = await self._request(kind, raw, caller, longest)
            return self._sent((await answer(caller, request)).SerializeToString(), caller)

        return grpc.stream_unary_rpc_method_handler(self._judged(answered))

    def _stream(self, kind: type[M], answer: Callable[[Identity, M, Send], Awaitable[None]]) -> Handler:
        async def answered(caller: Identity, raw: AsyncIterator[bytes], context: Context) -> None:
            request = await self._request(kind, raw, caller)
            # Before anything can cancel a first write: gRPC would then try to send this twice, fail, and leave the
            # caller without a status until its deadline.
            await context.send_initial_metadata(())
            await answer(caller, request, lambda part: context.write(self._sent(part, caller)))

        return grpc.stream_stream_rpc_method_handler(self._judged(answered))

    def _upload(self, answer: Callable[[Identity, AsyncIterator[pb.MomentumPart]], Awaitable[Message]]) -> Handler:
        async def answered(caller: Identity, raw: AsyncIterator[bytes], context: Context) -> bytes:
            response = await answer(caller, self._parts(raw, caller, context))
            return self._sent(response.SerializeToString(), caller)

        return grpc.stream_unary_rpc_method_handler(self._judged(answered, upload=True))

    def _judged(
        self, answer: Answer, *, upload: bool = False
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes | None]]:
        """The handler of a call: `answer`, for callers that have an identity and no more than their share."""

        async def call(raw: AsyncIterator[bytes], context: Context) -> bytes | None:
            async def answered(caller: Identity) -> bytes | None:
                try:
                    return await answer(caller, raw, context)
                except (Refused, grpc.aio.BaseError):
                    raise  # the latter: the connection, or the caller, is gone
                except Exception:
                    log.exception("a call failed", method=answer.__qualname__, caller=caller.urn)
                    sentence = "this is a fault of the server: its log says more"
                    raise Refused(Reason.INTERNAL_ERROR, sentence) from None

            identify, refuse = partial(self._caller, context), partial(self._refuse, context)
            return await judge(self._answers, identify, answered, refuse, upload=upload)

        return call

    async def _request(
        self, kind: type[M], raw: AsyncIterator[bytes], caller: Identity, longest: int = LONGEST_MESSAGE
    ) -> M:
        seconds = self._answers.settings.upload_timeout
        try:
            async with asyncio.timeout(seconds):
                message = await self._first(raw, caller)
        except TimeoutError:
            sentence = f"expected a {kind.__name__} within {seconds:g} s (setting upload_timeout)"
            raise Refused(Reason.SLOW_MESSAGE, sentence) from None
        if message is None:
            raise Refused(Reason.NO_MESSAGE, f"expected a {kind.__name__}")
        return self._parse(kind, message, caller, longest)

    async def _parts(
        self, raw_parts: AsyncIterator[bytes], caller: Identity, context: Context
    ) -> AsyncIterator[pb.MomentumPart]:
        header = await self._first(raw_parts, caller)
        if header is None:
            return
        yield self._parse(pb.MomentumPart, header, caller, LONGEST_MESSAGE)
        await whole(context.send_initial_metadata(((ADMITTED_KEY, "1"),)))
        async for chunk in raw_parts:
            yield self._parse(pb.MomentumPart, chunk, caller, None)  # what gRPC lets through

    async def _first(self, raw: AsyncIterator[bytes], caller: Identity) -> bytes | None:
        async with self._answers.quota.first_message(caller):
            return await anext(raw, None)

    def _caller(self, context: Context) -> Identity:
        if self._secure:
            identity = identity_of(context.auth_context())
            if identity is None:
                raise Refused(
                    Reason.NO_IDENTITY,
                    "expected a certificate with one URI urn:ostrakon:ROLE:ID among its alternative names",
                )
            return identity
        claimed = dict(context.invocation_metadata() or ()).get(IDENTITY_KEY, "")
        try:
            return parse(str(claimed))
        except OstrakonError as error:
            raise Refused(Reason.NO_IDENTITY, str(error)) from None

    def _parse(self, kind: type[M], raw: bytes, caller: Identity, longest: int | None) -> M:
        # In the handler, not in a deserializer: there a parse error would reach the caller as UNKNOWN.
        self._answers.quota.moved(caller, len(raw))
        if caller.role == "worker":
            self._answers.traffic.received += len(raw)
        if longest is not None and len(raw) > longest:
            sentence = f"expected a {kind.__name__} of up to {longest} bytes, got {len(raw)}"
            raise Refused(Reason.LONG_MESSAGE, sentence)
        try:
            return kind.FromString(raw)
        except DecodeError:
            raise Refused(Reason.NOT_A_MESSAGE, f"expected a {kind.__name__}") from None

    def _sent(self, raw: bytes, caller: Identity) -> bytes:
        self._answers.quota.moved(caller, len(raw))
        if caller.role == "worker":
            self._answers.traffic.sent += len(raw)
        return raw

    async def _refuse(self, context: Context, refusal: Refused) -> None:
        round = self._answers.head_round + 1
        trailer = pb.Refusal(reason=to_wire(Reason, refusal.reason), term=self._answers.term, round=round)
        await context.abort(
            grpc.StatusCode[refusal.code.name],
            str(refusal)[:LONGEST_SENTENCE].strip(),  # HTTP/2 knows no value with a space at an end: some drop it
            trailing_metadata=((REFUSAL_KEY, trailer.SerializeToString()),),
        )


async def _no_method(caller: Identity, raw: AsyncIterator[bytes], context: Context) -> None:
    raise Refused(Reason.NO_SUCH_METHOD, f"expected one of the methods of {SERVICE}")


async def whole(sending: Coroutine[Any, Any, None]) -> None:
    """Send it to its end, also where the call is closed meanwhile.

    Else gRPC would send metadata a second time with the status, fail, and leave the caller without any.
    """
    task = asyncio.ensure_future(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
