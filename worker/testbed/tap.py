"""The tap of an honest worker in a test bed: copies of what it submits and votes, for the adversary.

Fire and forget: whatever becomes of a copy, the worker goes on. Nothing else in the worker leads here.
"""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import structlog

from ostrakon.v1 import adversary_pb2 as pb_adversary
from ostrakon.v1 import adversary_pb2_grpc as pb_grpc
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.connection import Line
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.copies import header_of, to_parts
from ostrakon.worker.testbed.passing import Passing
from ostrakon.worker.transport import Transport

log = structlog.get_logger()


class Tap(Passing):
    """Sends a copy of each momentum and vote to the adversary, beside the server.

    Args:
        transport: the way to the server.
        line: the one to the adversary.
        deadline: seconds that a copy may take.
    """

    def __init__(self, transport: Transport, line: Line, deadline: float) -> None:
        super().__init__(transport)
        self._channel = line.channel
        self._stub = pb_grpc.AdversaryStub(line.channel)
        self._metadata = line.metadata
        self._deadline = deadline
        self._copies: dict[str, asyncio.Task[None]] = {}  # of each kind the newest: older ones are worth nothing

    async def close(self) -> None:
        """Close the connection, whatever is still on its way."""
        for copy in self._copies.values():
            copy.cancel()
        await self._channel.close()

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        """Stream one momentum vector up, and a copy of it to the adversary."""
        if submission.vector is not None:
            # A copy in memory too: the next round is trained into the vector, however long the adversary takes.
            copy = to_parts(header_of(submission, submission.vector), submission.vector.copy())
            self._fire(
                "momentum",
                lambda: self._stub.CopyMomentum(
                    copy, metadata=self._metadata, timeout=self._deadline, wait_for_ready=True
                ),
            )
        return await self.transport.submit(submission)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        """Vote, and tell the adversary what."""
        copy = pb_adversary.VoteCopy(run=request.stamp.run, round=request.stamp.round, choice=request.choice)
        self._fire(
            "vote",
            lambda: self._stub.CopyVote(copy, metadata=self._metadata, timeout=self._deadline, wait_for_ready=True),
        )
        return await self.transport.vote(request)

    def _fire(self, kind: str, call: Callable[[], Awaitable[object]]) -> None:
        earlier = self._copies.get(kind)
        if earlier is not None:
            earlier.cancel()
        self._copies[kind] = asyncio.create_task(_forget(kind, call))


async def _forget(kind: str, call: Callable[[], Awaitable[object]]) -> None:
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        log.info("no copy for the adversary", kind=kind, status=error.code().name, why=error.details())
