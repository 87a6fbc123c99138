"""gRPC in and out of the colluders' meeting place. The parameter server knows nothing of it.

Who calls is what its certificate says; which workers are honest and which corrupted, the settings say.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
import structlog
import uvloop

from ostrakon.common.aggregation import rule
from ostrakon.common.choice import Choice
from ostrakon.common.clock import MonotonicClock
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity, identity_of, parse
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.lifetime import stop_event
from ostrakon.common.runtime import prepare
from ostrakon.common.wire import CHUNK_BYTES, IDENTITY_KEY, WireError
from ostrakon.v1 import adversary_pb2 as pb
from ostrakon.v1 import adversary_pb2_grpc as pb_grpc
from ostrakon.v1 import parameter_server_pb2 as pb_server
from ostrakon.worker.attacks import Defence, attack
from ostrakon.worker.testbed.copies import read_parts, to_parts
from ostrakon.worker.testbed.meeting import Key, Meetings
from ostrakon.worker.testbed.settings import AdversarySettings

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", CHUNK_BYTES + (64 << 10)),
)
_CHOICES: dict[Choice | None, pb_server.Choice] = {
    "inner": pb_server.CHOICE_INNER,
    "outer": pb_server.CHOICE_OUTER,
    None: pb_server.CHOICE_UNSPECIFIED,
}


def serve(settings: AdversarySettings) -> None:
    """Serve until a signal ends it.

    Raises:
        OstrakonError: the address or the certificate cannot be used.
    """
    prepare(settings.threads)
    uvloop.run(_serve(settings))


async def _serve(settings: AdversarySettings) -> None:
    stop = stop_event(asyncio.get_running_loop())
    meetings = Meetings(
        settings.honest,
        settings.corrupted,
        settings.voters,
        tap_deadline=settings.tap_deadline,
        absent_after=settings.absent_after,
        seed=settings.seed,
        clock=MonotonicClock(),
    )
    server = grpc.aio.server(options=_OPTIONS)
    pb_grpc.add_AdversaryServicer_to_server(Service(meetings, secure=settings.tls is not None), server)
    try:
        if settings.tls is None:
            if settings.listen.rpartition(":")[0] not in ("127.0.0.1", "localhost", "[::1]"):
                raise OstrakonError(f"listen = {settings.listen!r} without certificates: loopback only, or give [tls]")
            server.add_insecure_port(settings.listen)
        else:
            credentials = Credentials.load(settings.tls, "adversary")
            server.add_secure_port(settings.listen, credentials.server_credentials())
    except RuntimeError:
        raise OstrakonError(f"address {settings.listen} cannot be served on: set listen to a free one") from None
    await server.start()
    log.info(
        "meeting", address=settings.listen, honest=settings.honest, corrupted=settings.corrupted, voters=settings.voters
    )
    await stop.wait()
    await server.stop(grace=1)


class Service(pb_grpc.AdversaryServicer):
    """gRPC in and out."""

    def __init__(self, meetings: Meetings, *, secure: bool) -> None:
        self._meetings = meetings
        self._secure = secure

    async def CopyMomentum(self, parts: AsyncIterator[pb.VectorPart], context: Context) -> pb.CopyResponse:
        member = await self._caller(context, "honest", self._meetings.honest)
        try:
            header, vector = await read_parts(parts)
        except WireError as error:
            await _refuse(context, error)
        self._meetings.copy(member, Key(header.run, header.round, header.base), vector)
        return pb.CopyResponse()

    async def CopyVote(self, request: pb.VoteCopy, context: Context) -> pb.CopyResponse:
        member = await self._caller(context, "honest", self._meetings.honest)
        choice: Choice = "inner" if request.choice == pb_server.CHOICE_INNER else "outer"
        self._meetings.copy_vote(member, Key(request.run, request.round), choice)
        return pb.CopyResponse()

    async def Conspire(self, parts: AsyncIterator[pb.VectorPart], context: Context) -> AsyncIterator[pb.VectorPart]:
        member = await self._caller(context, "corrupted", self._meetings.corrupted)
        try:
            header, vector = await read_parts(parts)
            plot = header.plot
            if not plot.attack:
                self._meetings.share(member, Key(header.run, header.round, header.base), vector)
                return
            plan = attack(plot.attack)
            defence = Defence(rule(plot.rule), plot.workers, plot.byzantine)
            key = Key(header.run, header.round, header.base)
            sent = await self._meetings.ask(member, key, vector, plan, defence)
        except (WireError, OstrakonError) as error:
            await _refuse(context, error)
        except Exception as error:  # whatever an attack raises ends this call and not the meeting place
            log.exception("the attack failed", attack=header.plot.attack)
            await _refuse(context, error)
        answer = pb.VectorHeader(round=header.round, parameters=len(sent), digest=digest(sent))
        async for part in to_parts(answer, sent):
            yield part

    async def ConspireVote(self, request: pb.ConspireVoteRequest, context: Context) -> pb.ConspireVoteResponse:
        member = await self._caller(context, "voters", self._meetings.voters)
        choice = await self._meetings.ask_vote(member, Key(request.run, request.round))
        return pb.ConspireVoteResponse(choice=_CHOICES[choice])

    async def _caller(self, context: Context, setting: str, expected: tuple[str, ...]) -> str:
        identity: Identity | None
        if self._secure:
            identity = identity_of(context.auth_context())
        else:
            identity = parse(str(dict(context.invocation_metadata() or ()).get(IDENTITY_KEY, "")))
        if identity is None or identity.role != "worker" or identity.id not in expected:
            who = "nobody" if identity is None else identity.urn
            await _refuse(context, OstrakonError(f"{who} is not in the adversary's setting {setting}: add it there"))
        return identity.id


async def _refuse(context: Context, error: Exception) -> NoReturn:
    log.warning("refused", why=str(error))
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    raise AssertionError("abort raises")
