"""A corrupted worker's way to the adversary of its test bed."""

import grpc
import structlog

from ostrakon.common.choice import Choice
from ostrakon.common.wire import Vector, WireError
from ostrakon.v1 import adversary_pb2 as pb_adversary
from ostrakon.v1 import adversary_pb2_grpc as pb_grpc
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.attacks import Attack
from ostrakon.worker.connection import Line
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.copies import header_of, read_parts, to_parts

log = structlog.get_logger()

COMPUTING_SECONDS = 30.0  # that an answer may take beyond the tap deadline: PGA simulates a rule many times


class Colluding:
    """Asks an adversary; `worker.testbed.byzantine.Colluders` over gRPC.

    Args:
        line: the way to the adversary.
        tap_deadline: seconds that it waits for copies of what others send.
    """

    def __init__(self, line: Line, tap_deadline: float) -> None:
        self._channel = line.channel
        self._stub = pb_grpc.AdversaryStub(line.channel)
        self._metadata = line.metadata
        self._timeout = tap_deadline + COMPUTING_SECONDS

    async def instead(self, attack: Attack, true: Submission, joined: pb.JoinResponse) -> Vector | None:
        """What to send instead of the true vector; None if the adversary does not answer."""
        if true.vector is None:
            return None
        header = header_of(true, true.vector)
        header.plot.attack = attack.name
        header.plot.rule, header.plot.workers, header.plot.byzantine = joined.rule, joined.workers, joined.byzantine
        try:
            call = self._stub.Conspire(to_parts(header, true.vector), metadata=self._metadata, timeout=self._timeout)
            _, instead = await read_parts(aiter(call))
        except (grpc.aio.AioRpcError, WireError) as error:
            log.warning("the adversary does not help", why=_why(error))
            return None
        return instead if len(instead) == len(true.vector) else None

    async def share(self, true: Submission) -> None:
        """Tell the adversary the true vector of a round in which this worker acts alone."""
        if true.vector is None:
            return
        try:
            call = self._stub.Conspire(
                to_parts(header_of(true, true.vector), true.vector), metadata=self._metadata, timeout=self._timeout
            )
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            log.warning("the adversary does not help", why=_why(error))

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def vote(self, stamp: pb.Stamp) -> Choice | None:
        """What to vote; None for not at all, or if the adversary does not answer."""
        request = pb_adversary.ConspireVoteRequest(run=stamp.run, round=stamp.round)
        try:
            answer = await self._stub.ConspireVote(request, metadata=self._metadata, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            log.warning("the adversary does not help", why=_why(error))
            return None
        if answer.choice == pb.CHOICE_UNSPECIFIED:
            return None
        return "inner" if answer.choice == pb.CHOICE_INNER else "outer"


def _why(error: grpc.aio.AioRpcError | WireError) -> str:
    if isinstance(error, WireError):
        return str(error)
    return f"{error.code().name}: {error.details()}"
