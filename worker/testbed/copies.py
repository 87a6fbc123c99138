"""Vectors on the way to the adversary of a test bed and back."""

from collections.abc import AsyncIterator

import numpy as np

from ostrakon.common.digest import digest
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import Receiver, Vector, WireError, check_finite, chunks
from ostrakon.v1 import adversary_pb2 as pb
from ostrakon.worker.submission import Submission

MOST_PARAMETERS = 1 << 31  # d of a header that is believed


def header_of(submission: Submission, vector: Vector) -> pb.VectorHeader:
    """Whose vector it is, and which, (d,) float32."""
    return pb.VectorHeader(
        run=submission.stamp.run,
        round=submission.stamp.round,
        base=submission.base,
        parameters=submission.parameters,
        digest=digest(vector),
    )


async def to_parts(header: pb.VectorHeader, vector: Vector) -> AsyncIterator[pb.VectorPart]:
    """A vector, (d,), after its header."""
    yield pb.VectorPart(header=header)
    for chunk in chunks(vector):
        yield pb.VectorPart(chunk=chunk)


async def read_parts(parts: AsyncIterator[pb.VectorPart]) -> tuple[pb.VectorHeader, Vector]:
    """The header and the vector, (d,) float32, finite.

    Raises:
        WireError: they are not what the header says.
    """
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise WireError(Reason.NO_HEADER, "expected a VectorHeader as the first part")
    header = first.header
    if not 0 < header.parameters <= MOST_PARAMETERS:
        raise WireError(Reason.WRONG_LENGTH, f"a vector of {header.parameters} values cannot be received")
    vector = np.empty(header.parameters, dtype=np.float32)
    receiver = Receiver(vector)
    async for part in parts:
        receiver.write(part.chunk)
    receiver.finish(header.digest)
    check_finite(vector)
    return header, vector
