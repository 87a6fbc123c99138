"""Calls with mutated messages, over mTLS, by callers of every role, to a server whose honest workers go on.

Every message is made from a valid one for the present state of the run, and from one seed. What may come back is one
of the statuses that the server gives on purpose; bytes that are no message must be INVALID_ARGUMENT.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from ostrakon.common.digest import DIGEST_SCHEME, digest
from ostrakon.common.identity import Role
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.reasons import Reason, from_wire
from ostrakon.common.settings import TlsFiles
from ostrakon.common.wire import PROTOCOL, REFUSAL_KEY, Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.fuzz.mutation import bend, extreme, shuffle
from tests.harness.cluster import Cluster
from tests.harness.driven_worker import random_vector

KINDS: dict[str, type[Message]] = {
    "Restore": pb.MomentumPart,  # which takes longest: nobody's share of calls is renewed while no round begins
    "Join": pb.JoinRequest,
    "Broadcast": pb.BroadcastRequest,
    "SubmitMomentum": pb.MomentumPart,
    "Propose": pb.ProposeRequest,
    "Vote": pb.VoteRequest,
    "Status": pb.StatusRequest,
}
STREAMED = ("Broadcast", "Propose")

ON_PURPOSE = {
    *("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "ALREADY_EXISTS", "PERMISSION_DENIED"),
    *("RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "DEADLINE_EXCEEDED", "CANCELLED"),
}
GONE = "gone"  # stands for the status of a call whose caller did not wait for it
RECOVERING = "UNAVAILABLE", Reason.RECOVERING  # what a server says on purpose that has lost its model
NOT_SENT = "Internal error from Core"  # what grpc.aio says itself where it still sent when the call was over
OWN_DEADLINE = 1.0  # seconds, after which a call that waits is given up by its caller

# Who calls: two members, which are the f of the run, and others that its authority has vouched for.
CALLERS: tuple[tuple[Role, str, float], ...] = (  # and their shares of the calls
    ("worker", "w00", 0.35),
    ("worker", "w01", 0.35),
    ("worker", "w98", 0.1),
    ("observer", "evaluator", 0.1),
    ("operator", "operator", 0.1),
)
AT_A_TIME = 6  # calls of one caller; it may have 8


@dataclass
class Known:
    """What one caller knows of the run; good enough for messages that are nearly right."""

    name: str
    session: str
    base: str
    stamp: pb.Stamp = field(default_factory=lambda: pb.Stamp(protocol=PROTOCOL))
    d: int = 170


class Unexpected(AssertionError):
    """An answer that no caller may ever get."""


class Fuzzer:
    """Makes calls and judges the answers."""

    def __init__(self, run: Cluster, seed: int, *, recovering: bool = False) -> None:
        """`recovering`: the server has lost its model, and may say so."""
        self._rng = random.Random(seed)
        self._run = run
        self._recovering = recovering
        self.statuses: Counter[tuple[str, str]] = Counter()  # (RPC, status)
        self.reasons: Counter[tuple[str, Reason | None]] = Counter()  # (RPC, reason)

    async def fuzz(self, messages: int, rpcs: tuple[str, ...] = tuple(KINDS)) -> None:
        """Make so many calls in all, or a few more.

        Raises:
            Unexpected: an answer is not one that the server gives on purpose.
        """
        callers = [
            self._call_on(role, name, math.ceil(share * messages), random.Random(self._rng.random()), rpcs)
            for role, name, share in CALLERS
        ]
        await asyncio.gather(*callers)

    async def _call_on(self, role: Role, name: str, count: int, rng: random.Random, rpcs: tuple[str, ...]) -> None:
        tls = TlsFiles.model_validate(self._run.tls(role, name))
        credentials = Credentials.load(tls, role).channel_credentials()
        known = Known(name, f"session {rng.random()}", self._run.entries()[-1].winner)
        left = iter(range(count))
        async with grpc.aio.secure_channel(self._run.address, credentials) as channel:

            async def some() -> None:
                for number in left:
                    if number % 10 == 0:
                        await self._look(channel, known)
                    rpc = rng.choice(rpcs)
                    parts = _valid(rpc, known, rng)
                    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
                        parts = _mutated(rpc, parts, rng)
                    await self._call(
                        channel, rpc, parts, known, endless=rng.random() < 0.05, read=rng.choice((0, 1, 100))
                    )

            await asyncio.gather(*(some() for _ in range(AT_A_TIME)))

    async def _look(self, channel: grpc.aio.Channel, known: Known) -> None:
        """Learn where the run stands, as far as the caller's role lets it."""
        join = pb.JoinRequest(
            stamp=pb.Stamp(protocol=PROTOCOL),
            session=known.session,
            task="linear",
            parameters=known.d,
            digest_scheme=DIGEST_SCHEME,
            holds=[known.base],
        )
        raw = await self._call(channel, "Join", [join.SerializeToString()], known)
        if raw:
            known.stamp = pb.JoinResponse.FromString(raw).stamp
        ask = pb.BroadcastRequest(stamp=known.stamp, session=known.session)
        raw = await self._call(channel, "Broadcast", [ask.SerializeToString()], known)
        if raw:
            part = pb.ModelPart.FromString(raw)
            known.stamp, known.base, known.d = part.stamp, part.header.digests[0], part.header.parameters

    async def _call(
        self,
        channel: grpc.aio.Channel,
        rpc: str,
        parts: list[bytes],
        known: Known,
        endless: bool = False,
        read: int = 1,
    ) -> bytes | None:
        """One call; returns its first answer, if there is any."""
        method, answer, first = f"/ostrakon.v1.ParameterServer/{rpc}", None, None
        alone = len(parts) == 1 and not endless
        shape = f"{'unary' if alone else 'stream'}_{'stream' if rpc in STREAMED else 'unary'}"
        call = getattr(channel, shape)(method)(*parts if alone else (), timeout=OWN_DEADLINE)
        status, reason = "OK", None
        try:
            if not alone:
                await _send(call, parts, endless)
            if rpc in STREAMED:
                for _ in range(read):
                    answer = await call.read()
                    first = first or answer
                    if answer is grpc.aio.EOF:
                        break
                if answer is not grpc.aio.EOF:
                    status = GONE
                    call.cancel()
            else:
                first = await call
        except grpc.aio.AioRpcError as error:
            status = GONE if error.details() == NOT_SENT else error.code().name
            trailer = dict(error.trailing_metadata() or ()).get(REFUSAL_KEY)
            if trailer is not None:
                refusal = pb.Refusal.FromString(trailer)
                reason = from_wire(Reason, refusal.reason)
                assert reason is not None, refusal
                known.stamp.term, known.stamp.round = refusal.term, refusal.round
        self.statuses[rpc, status] += 1
        self.reasons[rpc, reason] += 1
        self._check(rpc, parts, status, reason)
        return first if isinstance(first, bytes) else None

    def _check(self, rpc: str, parts: list[bytes], status: str, reason: Reason | None) -> None:
        shown = f"{rpc} {[part[:80].hex() for part in parts[:4]]} ({len(parts)} parts): {status} {reason!r}"
        if status == GONE:
            return
        if status not in ON_PURPOSE and not (self._recovering and (status, reason) == RECOVERING):
            raise Unexpected(shown)
        judged = _NO_MESSAGE | _JUDGED_BEFORE.get(rpc, set())
        if parts and not _is_message(KINDS[rpc], parts[0]) and status not in judged:
            raise Unexpected(f"{shown}: that is no message")


async def _send(call: Any, parts: list[bytes], endless: bool) -> None:
    with suppress(asyncio.InvalidStateError):  # the call is over: its status says why
        for part in parts:
            await call.write(part)
        if not endless:
            await call.done_writing()


# What bytes may hear that are no message, and where the caller, and what it may do at all, are judged first.
_NO_MESSAGE = {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
_JUDGED_BEFORE = {"SubmitMomentum": {"PERMISSION_DENIED"}, "Restore": {"PERMISSION_DENIED", "FAILED_PRECONDITION"}}


def _is_message(kind: type[Message], raw: bytes) -> bool:
    try:
        kind.FromString(raw)
    except DecodeError:
        return False
    return True


def _valid(rpc: str, known: Known, rng: random.Random) -> list[bytes]:
    """The parts of a call that is right, or was a moment ago."""
    return [part.SerializeToString() for part in _VALID[rpc](known, rng)]


def _mutated(rpc: str, parts: list[bytes], rng: random.Random) -> list[bytes]:
    if not parts:
        return parts
    draw, at = rng.random(), rng.randrange(len(parts))
    if draw < 0.2:
        return shuffle(parts, rng)
    changed = list(parts)
    if draw < 0.65 and _is_message(KINDS[rpc], parts[at]):
        message = KINDS[rpc].FromString(parts[at])
        extreme(message, rng)
        changed[at] = message.SerializeToString()
    else:
        changed[at] = bend(parts[at], rng, parts)
    return changed


def _submission(known: Known, rng: random.Random) -> list[Message]:
    vector = random_vector(known.d, rng.randrange(4))
    return _upload(known, rng, vector, digest(vector))


def _upload(known: Known, rng: random.Random, vector: Vector, named: str) -> list[Message]:
    header = pb.MomentumHeader(
        base=known.base, parameters=known.d, session=known.session, digest=named, loss=rng.random()
    )
    data, cut = vector.tobytes(), rng.choice((4, 100, 340, 680))
    chunks = [pb.Chunk(offset=at, data=data[at : at + cut]) for at in range(0, len(data), cut)]
    return [
        pb.MomentumPart(stamp=known.stamp, header=header),
        *(pb.MomentumPart(stamp=known.stamp, chunk=chunk) for chunk in chunks),
    ]


_VALID: dict[str, Callable[[Known, random.Random], list[Any]]] = {
    "Join": lambda known, rng: [
        pb.JoinRequest(
            stamp=known.stamp,
            session=known.session,
            task="linear",
            parameters=known.d,
            digest_scheme=DIGEST_SCHEME,
            head=pb.Head(round=known.stamp.round, hash=known.base),
        )
    ],
    "Broadcast": lambda known, rng: [
        pb.BroadcastRequest(
            stamp=known.stamp,
            session=known.session,
            after=rng.choice((0, known.stamp.round)),
            holds=rng.choice(([], [known.base])),
            average=rng.random() < 0.2,
        )
    ],
    "SubmitMomentum": _submission,
    "Propose": lambda known, rng: [pb.ProposeRequest(stamp=known.stamp, session=known.session)],
    "Vote": lambda known, rng: [
        pb.VoteRequest(
            stamp=known.stamp,
            session=known.session,
            choice=rng.choice((pb.CHOICE_INNER, pb.CHOICE_OUTER)),
            inner_loss=rng.random(),
            outer_loss=rng.random(),
        )
    ],
    # Nobody has the model here: the right name, and bytes that are another model's.
    "Restore": lambda known, rng: _upload(known, rng, random_vector(known.d, rng.randrange(4)), known.base),
    "Status": lambda known, rng: [pb.StatusRequest(stamp=known.stamp)],
}
