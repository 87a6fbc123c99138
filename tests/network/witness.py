"""A worker that writes down every commit it is told of, so that a test can look for it in the ledger."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from protos.ostrakon.v1 import parameter_server_pb2 as pb
from worker import process
from worker.transport import Passing, Transport


class Witness(Passing):
    """The way of an honest worker, and a file of lines `ROUND HASH`."""

    def __init__(self, transport: Transport, path: Path) -> None:
        super().__init__(transport)
        self._file = path.open("a", buffering=1)

    async def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        async for part in super().broadcast(request):
            if part.HasField("header"):
                self._note(part.header.head)
            yield part

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        response = await super().vote(request)
        self._note(response.commit.head)
        return response

    def _note(self, head: pb.Head) -> None:
        if head.round:
            print(head.round, head.hash, file=self._file)


def main(config: Path, log: Path | None) -> None:
    """As `worker.process`; what it is told is beside its settings, in `NAME.told`."""
    way = process._way

    def witnessed(*arguments: Any) -> Transport:
        return Witness(way(*arguments), config.with_suffix(".told"))

    process._way = witnessed
    process.main(config, log)
