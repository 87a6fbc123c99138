"""The worker's way to the server, as its session sees it, and models as they arrive."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ostrakon.common.bf16 import Half
from ostrakon.common.digest import digest
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import Receiver, Vector, WireError
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.submission import Submission


class CallFailed(Exception):
    """A call that was refused or did not get through.

    Attributes:
        status: gRPC's name of the status.
        reason: the server's; None if the server did not answer, or gave one that this program does not know.
    """

    def __init__(self, status: str, reason: Reason | None, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason

    @property
    def answered(self) -> bool:
        """Whether anybody was there: a call that waited until its deadline was waiting at the server."""
        return self.status != "UNAVAILABLE" or self.reason is not None


class Transport(Protocol):
    """The seven calls less Status. Every method raises `CallFailed`."""

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        """Introduce this process."""
        ...

    async def restore(self, model: Submission) -> pb.RestoreResponse:
        """Stream the committed model back to a server that has lost it."""
        ...

    def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        """Stream the committed model."""
        ...

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        """Stream one momentum vector up."""
        ...

    def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        """Stream both candidates."""
        ...

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        """Vote, and hear what was committed."""
        ...


@dataclass(frozen=True)
class Models:
    """What one stream of models brought: its header's stamp, its header, and the vectors that followed."""

    stamp: pb.Stamp
    header: pb.ModelHeader
    vectors: dict[str, Vector]


async def receive_models(
    parts: AsyncIterator[pb.ModelPart],
    d: int,
    *,
    count: int = 1,
    verify: bool = True,
    form: Callable[[Half], Vector] | None = None,
) -> Models:
    """Read a stream of models into memory reserved for them, (d,) float32 each.

    Args:
        parts: the stream.
        d: values of a model.
        count: of models that are named: one, or two candidates; none where the round is decided.
        verify: check each vector against its digest; off where the name is no digest (the average).
        form: makes a model of each vector (d,) of bfloat16 that comes in its place.

    Raises:
        CallFailed: the stream failed (from `parts`), or what came is not what its header announced (INTERNAL).
    """
    first = await anext(parts, None)
    if first is None or not first.HasField("header"):
        raise CallFailed("INTERNAL", None, "the server's stream of models has no header")
    header = first.header
    vectors: dict[str, Vector] = {}
    chunks = _chunks(first, parts)
    try:
        _check(header, d, 0 if header.HasField("decided") else count)
        for name in header.follow:
            memory: Any = np.empty(d, dtype=np.float32 if form is None else np.uint16)
            receiver = Receiver(memory)
            while not receiver.complete:
                chunk = await anext(chunks, None)
                if chunk is None:
                    raise WireError(Reason.WRONG_LENGTH, f"the stream ended inside model {name[:12]}")
                receiver.write(chunk)
            if form is not None:
                vectors[name] = _formed(form, memory, name)
                continue
            if verify:
                receiver.finish(name)
            vectors[name] = memory
        if await anext(chunks, None) is not None:  # read to the end: the server then knows that we have it all
            raise WireError(Reason.TOO_MUCH_DATA, "more follows the announced models")
    except WireError as error:
        raise CallFailed("INTERNAL", None, f"a damaged model came from the server: {error}") from None
    return Models(first.stamp, header, vectors)


async def _chunks(first: pb.ModelPart, others: AsyncIterator[pb.ModelPart]) -> AsyncIterator[pb.Chunk]:
    """Those of a stream whose first part has the header."""
    if first.HasField("chunk"):
        yield first.chunk
    async for part in others:
        yield part.chunk


def _formed(form: Callable[[Half], Vector], half: Half, name: str) -> Vector:
    model = form(half)
    if digest(model) != name:
        raise WireError(Reason.WRONG_DIGEST, f"the model that comes of an aggregate is not {name[:12]}")
    return model


def _check(header: pb.ModelHeader, d: int, count: int) -> None:
    """Refuse what nobody asked for, before there is memory for it."""
    names = list(header.digests)
    if len(names) != count:
        raise WireError(Reason.TOO_MUCH_DATA, f"{len(names)} models are named, expected {count}")
    if len(set(header.follow)) < len(header.follow) or not set(header.follow) <= set(names):
        raise WireError(Reason.TOO_MUCH_DATA, "models are to follow that are not named, or one of them twice")
    if names and header.parameters != d:
        raise WireError(Reason.WRONG_LENGTH, f"models of {header.parameters} values are announced, expected {d}")
