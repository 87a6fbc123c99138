"""Ways to the server that bend some calls: what they have in common."""

from collections.abc import AsyncIterator

from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.submission import Submission
from ostrakon.worker.transport import CallFailed, Transport


class Passing:
    """A transport that hands every call on to another: what bends some of them says only which."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        """Introduce this process."""
        return await self.transport.join(request)

    async def restore(self, model: Submission) -> pb.RestoreResponse:
        """Stream the committed model back to a server that has lost it."""
        return await self.transport.restore(model)

    def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        """Stream the committed model."""
        return self.transport.broadcast(request)

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        """Stream one momentum vector up."""
        return await self.transport.submit(submission)

    def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        """Stream both candidates."""
        return self.transport.propose(request)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        """Vote, and hear what was committed."""
        return await self.transport.vote(request)


def sat_out(why: str) -> CallFailed:
    """What a transport raises that does not make a call: the worker goes on to the next round."""
    return CallFailed("ABORTED", None, why)
