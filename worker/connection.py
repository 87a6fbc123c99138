"""gRPC to the server: one channel, its certificates, its statuses as `CallFailed`."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity, Role
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.identity.handshake import handshake_failure
from ostrakon.common.identity.renewal import RenewableCredentials
from ostrakon.common.proxy import channel_options, proxy_of
from ostrakon.common.reasons import Reason, from_wire
from ostrakon.common.settings import TlsFiles
from ostrakon.common.wire import IDENTITY_KEY, PROTOCOL, REFUSAL_KEY
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.v1 import parameter_server_pb2_grpc as pb_grpc
from ostrakon.worker.careful_upload import LOST, send_when_asked
from ostrakon.worker.lanes import Lanes, Pace, answer
from ostrakon.worker.submission import Submission
from ostrakon.worker.transport import CallFailed

# A waiting call is asked again after so many seconds: a server that vanished without a word is noticed then at the
# latest, a dead connection by keepalive much earlier.
PATIENCE_SECONDS = 300.0

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # An unanswered ping that gRPC sent for itself keeps keepalive's waiting. Twenty seconds: on a slow line a ping
    # waits behind what is being uploaded.
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),  # no limit: otherwise a call that waits soon has one a minute
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # what one attempt may take, TLS included, over a slow line
)

log = structlog.get_logger()

T = TypeVar("T")
Method = Callable[[pb_grpc.ParameterServerStub], Callable[..., T]]  # a stub's method, to be called with a request


@dataclass(frozen=True)
class Line:
    """A channel to one address, and who calls over it."""

    channel: grpc.aio.Channel
    identity: Identity
    metadata: tuple[tuple[str, str], ...]  # to be sent with every call
    warnings: tuple[str, ...]


Options = tuple[tuple[str, int], ...]


def open_line(
    address: str,
    role: Role,
    *,
    tls: TlsFiles | None = None,
    id: str | None = None,
    name: str | None = None,
    options: Options = (),
) -> Line:
    """Open a channel; it connects when first used.

    Args:
        tls: the certificate of who calls.
        id: who calls where there is no certificate.
        name: what the other side's certificate has to name instead of its address.
        options: of the channel, beside those that all have.

    Raises:
        OstrakonError: the certificate cannot be used for `role`, or there is none and no id either.
    """
    if tls is not None:
        return _secure_line(Credentials.load(tls, role), address, name, options)
    if id is None:
        raise OstrakonError("this process has no certificate: give tls.ca, tls.certificate and tls.key, or id")
    identity = Identity(role, id)
    channel = grpc.aio.insecure_channel(address, options=(*CHANNEL_OPTIONS, *channel_options(address), *options))
    return Line(channel, identity, ((IDENTITY_KEY, identity.urn),), ())


def _secure_line(credentials: Credentials, address: str, name: str | None = None, more: Options = ()) -> Line:
    override = [("grpc.ssl_target_name_override", name)] if name else []
    options = (*CHANNEL_OPTIONS, *channel_options(address), *override, *more)
    channel = grpc.aio.secure_channel(address, credentials.channel_credentials(), options=options)
    return Line(channel, credentials.identity, (), credentials.warnings)


class Connection:
    """One channel to the server; a `Transport`. With a renewed certificate the next call opens another one."""

    def __init__(
        self,
        address: str,
        role: Role,
        *,
        tls: TlsFiles | None = None,
        id: str | None = None,
        claimed: str | None = None,
    ) -> None:
        """Checks the certificate; connects when first called.

        Args:
            address: of the server, HOST:PORT.
            tls: the certificate of who calls.
            id: who calls where there is no certificate.
            claimed: the identity to claim where a server might believe it; for test beds.

        Raises:
            OstrakonError: the certificate cannot be used for `role`, or there is none and no id either.
        """
        self._address = address
        self._tls = tls
        self._credentials = None if tls is None else RenewableCredentials(tls, role)
        if self._credentials is None:
            line = open_line(address, role, id=id)
        else:
            line = _secure_line(self._credentials.current, address)
        self.identity, self.warnings = line.identity, line.warnings
        self._channel = line.channel
        self._metadata = line.metadata if claimed is None else ((IDENTITY_KEY, claimed),)
        self._stub = pb_grpc.ParameterServerStub(self._channel)
        self._id = id
        self._lanes = Lanes()
        self._others: list[grpc.aio.Channel] = []  # of the other lanes
        self._said_waiting = False
        self._closing: set[asyncio.Task[None]] = set()  # channels of certificates that were renewed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in (self._channel, *self._others):
            await channel.close()

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        """Introduce this process."""
        response: pb.JoinResponse = await self._unary(lambda stub: stub.Join, request)
        self._lanes.among(response.workers)
        return response

    async def restore(self, model: Submission) -> pb.RestoreResponse:
        """Stream the committed model back to a server that has lost it."""
        return await self._unary(lambda stub: stub.Restore, model.parts())

    def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        """Stream the committed model."""
        return self._stream(lambda stub: stub.Broadcast, request)

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        """Stream one momentum vector up, over several connections where that is faster."""
        now = asyncio.get_running_loop().time
        count, start = self._lanes.count(submission.size), now()
        if count > 1:
            try:
                response: pb.SubmitMomentumResponse = await self._submit_over(count, submission)
                if response.uploaded:
                    self._lanes.sent_over_several(submission.size, now() - start)
                return response
            except CallFailed as failed:
                if failed.reason not in (None, Reason.NO_LANE):
                    raise
                self._lanes.failed()  # whatever it was, one connection may still do
        pace, start = Pace(now), now()
        try:
            response = await self.submit_parts(pace(submission.parts()))
        except CallFailed as failed:
            if str(failed) != LOST:
                raise
            return await self._submit_carefully(submission)
        if response.uploaded:
            self._lanes.sent_alone(submission.size, now() - start, pace.fastest)
            self._connect(self._lanes.count(submission.size) - 1)
        return response

    async def _submit_carefully(self, submission: Submission) -> pb.SubmitMomentumResponse:
        """One round trip more than otherwise, and the server's reasons are certain to come through."""

        async def call(request: AsyncIterator[pb.MomentumPart], **how: Any) -> pb.SubmitMomentumResponse:
            response: pb.SubmitMomentumResponse = await send_when_asked(self._stub.SubmitMomentum(**how), request)
            return response

        return await self._made(call, submission.parts())

    async def _submit_over(self, lanes: int, submission: Submission) -> pb.SubmitMomentumResponse:
        self._renew()
        self._connect(lanes - 1)
        attempt = secrets.randbits(64)
        stubs = [self._stub, *(pb_grpc.ParameterServerStub(channel) for channel in self._others)]
        return await answer(
            *(
                self._made(stub.SubmitMomentum, submission.parts(lane, lanes, attempt))
                for lane, stub in enumerate(stubs[:lanes])
            )
        )

    def _connect(self, others: int) -> None:
        """Have so many connections beside the first one, and begin to connect the new ones."""
        while len(self._others) < others:
            # Otherwise gRPC would make one connection of all.
            channel = self._open((("grpc.use_local_subchannel_pool", 1),))
            channel.get_state(try_to_connect=True)
            self._others.append(channel)

    def _open(self, options: Options) -> grpc.aio.Channel:
        if self._credentials is None:
            return open_line(self._address, self.identity.role, id=self._id, options=options).channel
        return _secure_line(self._credentials.current, self._address, more=options).channel

    async def submit_parts(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        """Stream these parts up as they are."""
        return await self._unary(lambda stub: stub.SubmitMomentum, parts)

    def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        """Stream both candidates."""
        return self._stream(lambda stub: stub.Propose, request)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        """Vote, and hear what was committed."""
        return await self._unary(lambda stub: stub.Vote, request)

    async def status(self) -> pb.StatusResponse:
        """Where the run stands; for observers and operators."""
        request = pb.StatusRequest(stamp=pb.Stamp(protocol=PROTOCOL))
        return await self._unary(lambda stub: stub.Status, request)

    def handshake_failure(self) -> str | None:
        """Why TLS fails, which gRPC reports only as unavailable; None if it does not. Blocks for up to 3 s.

        Says once in the log that the server is waited for, and over which proxy; nothing is found out beyond one.
        """
        proxy = proxy_of(self._address)
        sentence = handshake_failure(self._address, self._tls) if self._tls is not None and proxy is None else None
        if sentence is None and not self._said_waiting:
            over = {} if proxy is None else {"proxy": proxy, "hint": "with the host in no_proxy it is called directly"}
            log.warning("no answer from the server yet, trying on", server=self._address, **over)
            self._said_waiting = True
        return sentence

    def _renew(self) -> None:
        """Change over to a renewed certificate; calls on the channel before have three seconds to end."""
        if self._credentials is None or not self._credentials.renewed():
            return
        before = self._channel
        self._channel = _secure_line(self._credentials.current, self._address).channel
        self._stub = pb_grpc.ParameterServerStub(self._channel)
        for channel in (before, *self._others):
            closing = asyncio.create_task(channel.close(grace=3))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._others = []

    async def _unary(self, method: Method[Awaitable[T]], request: Any) -> T:
        self._renew()
        return await self._made(method(self._stub), request)

    async def _made(self, call: Callable[..., Awaitable[T]], request: Any) -> T:
        try:
            return await call(request, metadata=self._metadata, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None

    async def _stream(self, method: Method[AsyncIterator[T]], request: Any) -> AsyncIterator[T]:
        self._renew()
        try:
            async for part in method(self._stub)(request, metadata=self._metadata, timeout=PATIENCE_SECONDS):
                yield part
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None


def _failed(error: grpc.aio.AioRpcError) -> CallFailed:
    trailer = dict(error.trailing_metadata() or ()).get(REFUSAL_KEY)
    return CallFailed(error.code().name, _reason(trailer), error.details() or error.code().name)


def _reason(trailer: str | bytes | None) -> Reason | None:
    if not isinstance(trailer, bytes):
        return None
    try:
        return from_wire(Reason, pb.Refusal.FromString(trailer).reason)
    except DecodeError:  # no server of this protocol has said that
        return None
