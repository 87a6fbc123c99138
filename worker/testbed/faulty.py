"""A worker's way to the server on which things go wrong: what the faults of `faults.py` do."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import NoReturn, Protocol, TypeVar

import numpy as np
import structlog

from ostrakon.common.reasons import Reason
from ostrakon.common.schedule import Schedule
from ostrakon.common.wire import MOST_OPEN_CALLS, Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.part import UNREACHABLE
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.faults import Fault, Planned
from ostrakon.worker.testbed.passing import Passing, sat_out
from ostrakon.worker.transport import CallFailed, Transport

log = structlog.get_logger()

HUGE = 1e30  # the norm of a huge vector: its square does not fit float32
FLOOD_SECONDS = 5.0  # that a flood waits for the next refusal

T = TypeVar("T")


class Wire(Transport, Protocol):
    """A way to the server on which a submission can also go wrong part by part."""

    async def submit_parts(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
        """Stream these parts up as they are."""
        ...


class Another(Protocol):
    """Opens another connection under the worker's certificate, as a second process would."""

    def __call__(self, *, disguised: bool = False) -> AbstractAsyncContextManager[Transport]:
        """One that, disguised, claims to be another worker wherever a server might believe it."""
        ...


class Faulty(Passing):
    """Fails as it was told, round by round.

    Args:
        transport: the way to the server.
        faults: over the rounds.
        another: for what one connection cannot do.
    """

    def __init__(self, transport: Wire, faults: Schedule[Planned], another: Another) -> None:
        super().__init__(transport)
        self._wire = transport
        self._faults = faults
        self._another = another
        self._join = pb.JoinRequest()
        self._twin_joined = 0  # in this round, last

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        """Introduce this process, and remember how."""
        self._join = request
        return await self.transport.join(request)

    async def submit(self, true: Submission) -> pb.SubmitMomentumResponse:
        """Stream one momentum vector up, or fail to."""
        planned = self._faults.at(true.stamp.round)
        fault = None if planned is None else planned.fault
        match fault:
            case Fault.SILENT:
                raise sat_out("this worker is silent")
            case Fault.SLOW if planned:
                await asyncio.sleep(planned.amount)
            case Fault.CRASH_BEFORE_SUBMIT:
                _crash()
            case Fault.CRASH_MID_STREAM:
                return await self._wire.submit_parts(_half(true.parts(), _crash_soon))
            case Fault.HALF_STREAM:
                return await self._wire.submit_parts(_half(true.parts(), asyncio.Event().wait))
            case Fault.FLOOD if planned:
                await self._flood(true, int(planned.amount))
            case Fault.TWIN if self._twin_joined < true.stamp.round:
                return await self._submit_beside_a_twin(true)
            case Fault.SAME_TWICE:
                return await self._submit_twice(true, true)
            case Fault.OTHER_TWICE if true.vector is not None:
                return await self._submit_twice(true, replace(true, vector=-true.vector))
            case Fault.ZEROS | Fault.HUGE if true.vector is not None:
                true = replace(true, vector=_replaced(true.vector, fault))
            case Fault.WRONG_OFFSET if true.vector is not None:
                return await _refused(self._wire.submit_parts(_shifted(true.parts())))
            case _ if fault is not None and (spoilt := _spoilt(true, fault)) is not None:
                return await _refused(self.transport.submit(spoilt))
        return await self.transport.submit(true)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        """Vote, or fail to."""
        planned = self._faults.at(request.stamp.round)
        match None if planned is None else planned.fault:
            case Fault.SILENT:
                raise sat_out("this worker is silent")
            case Fault.CRASH_BEFORE_VOTE:
                _crash()
            case Fault.CRASH_AFTER_VOTE:
                await self.transport.vote(request)
                _crash()
            case Fault.TWO_VOTES:
                return await self._vote_twice(request)
            case Fault.VOTE_AS_ANOTHER:
                await self._vote_as_another(request)
        return await self.transport.vote(request)

    async def _submit_twice(self, true: Submission, again: Submission) -> pb.SubmitMomentumResponse:
        first = await self.transport.submit(true)
        await _in_vain(self.transport.submit(again))
        return first

    async def _submit_beside_a_twin(self, true: Submission) -> pb.SubmitMomentumResponse:
        """Another process joins under this certificate; this one then has to join anew, which closes the other."""
        self._twin_joined = true.stamp.round
        request = pb.JoinRequest()
        request.CopyFrom(self._join)
        request.session = uuid.uuid4().hex
        async with self._another() as twin:
            await _in_vain(twin.join(request))
            try:
                return await self.transport.submit(true)
            except CallFailed as failed:
                if failed.reason is not Reason.OLDER_SESSION:
                    raise
                raise CallFailed(failed.status, Reason.NOT_JOINED, str(failed)) from None

    async def _flood(self, true: Submission, calls: int) -> None:
        """Open calls that the server would have to keep, until it has refused all but those that it admits."""
        request = pb.BroadcastRequest(stamp=true.stamp, session=true.session, after=1 << 62)

        async def wait_for_ever(transport: Transport) -> None:
            async for _ in transport.broadcast(request):
                pass

        async with self._another() as connection:
            flood = {asyncio.create_task(_in_vain(wait_for_ever(connection))) for _ in range(calls)}
            refused: set[asyncio.Task[None]] = flood
            while refused and len(flood) > MOST_OPEN_CALLS:
                refused, flood = await asyncio.wait(flood, timeout=FLOOD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)

    async def _vote_twice(self, request: pb.VoteRequest) -> pb.VoteResponse:
        other = pb.VoteRequest()
        other.CopyFrom(request)
        other.choice = pb.CHOICE_OUTER if request.choice == pb.CHOICE_INNER else pb.CHOICE_INNER
        both = [self.transport.vote(request), self.transport.vote(other)]
        first, second = await asyncio.gather(*both, return_exceptions=True)
        for answer in (first, second):
            if isinstance(answer, pb.VoteResponse):
                return answer
        raise sat_out(f"neither vote was answered: {first}; {second}")

    async def _vote_as_another(self, request: pb.VoteRequest) -> None:
        """No field of the message is a name: what can be claimed is another's metadata, and a session."""
        claim = pb.VoteRequest()
        claim.CopyFrom(request)
        claim.session = uuid.uuid4().hex  # that of another cannot be known
        async with self._another(disguised=True) as connection:
            await _in_vain(connection.vote(claim))


async def _refused(call: Awaitable[T]) -> T:
    """A call that the server should refuse; the worker then sits out the round, whatever the refusal asks of it."""
    try:
        answer = await call
    except CallFailed as failed:
        if failed.status in UNREACHABLE:
            raise
        raise sat_out(f"refused as expected: {failed}") from None
    log.warning("a fault was not refused")
    return answer


async def _in_vain(call: Awaitable[object]) -> None:
    try:
        await call
    except CallFailed as failed:
        log.info("refused as expected", status=failed.status, reason=failed.reason)


def _replaced(vector: Vector, fault: Fault) -> Vector:
    if fault is Fault.ZEROS:
        return np.zeros_like(vector)
    long = vector.astype(np.float64) if vector.any() else np.ones(len(vector))
    huge: Vector = (long * (HUGE / np.linalg.norm(long))).astype(np.float32)
    return huge


def _spoilt(true: Submission, fault: Fault) -> Submission | None:
    """What the server must refuse; None for faults that are not in a submission."""
    stamp, vector = true.stamp, true.vector
    match fault:
        case Fault.STALE_ROUND:
            return _stamped(true, round=stamp.round - 1)
        case Fault.FUTURE_ROUND:
            return _stamped(true, round=stamp.round + 1)
        case Fault.WRONG_TERM:
            return _stamped(true, term=stamp.term + 1)
        case Fault.WRONG_RUN:
            return _stamped(true, run=str(uuid.uuid4()))
        case Fault.NAN | Fault.INF if vector is not None:
            bad = vector.copy()
            bad[len(bad) // 2] = np.nan if fault is Fault.NAN else np.inf
            return replace(true, vector=bad)
        case Fault.WRONG_LENGTH if vector is not None:
            return replace(true, vector=vector[:-1])
    return None


def _stamped(true: Submission, **changes: int | str) -> Submission:
    stamp = pb.Stamp()
    stamp.CopyFrom(true.stamp)
    for name, value in changes.items():
        setattr(stamp, name, value)
    return replace(true, stamp=stamp)


async def _shifted(parts: AsyncIterator[pb.MomentumPart]) -> AsyncIterator[pb.MomentumPart]:
    async for part in parts:
        if part.HasField("chunk"):
            part.chunk.offset += 4
        yield part


async def _half(
    parts: AsyncIterator[pb.MomentumPart], then: Callable[[], Awaitable[object]]
) -> AsyncIterator[pb.MomentumPart]:
    """The header, half of the first chunk, and nothing more."""
    yield await anext(parts)
    part = await anext(parts, None)
    if part is not None:  # the gradient is finite
        part.chunk.data = part.chunk.data[: len(part.chunk.data) // 2]
        yield part
    await then()


async def _crash_soon() -> None:
    await asyncio.sleep(0.1)  # what was sent is on its way
    _crash()


def _crash() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be survived")
