"""A momentum vector as it is submitted: to parts and back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ostrakon.common.digest import digest
from ostrakon.common.wire import Receiver, Vector, chunks
from ostrakon.v1 import parameter_server_pb2 as pb


@dataclass(frozen=True)
class Submission:
    """One call of SubmitMomentum: `vector` is (d,) float32, or None where the gradient is not finite."""

    stamp: pb.Stamp
    header: pb.MomentumHeader
    vector: Vector | None

    async def parts(self) -> AsyncIterator[pb.MomentumPart]:
        """The parts of the stream; every one carries the stamp."""
        yield pb.MomentumPart(stamp=self.stamp, header=self.header)
        if self.vector is not None:
            for chunk in chunks(self.vector):
                yield pb.MomentumPart(stamp=self.stamp, chunk=chunk)

    @classmethod
    async def read(cls, parts: AsyncIterator[pb.MomentumPart]) -> Self:
        """What this process is about to send."""
        first = await anext(parts)
        header = first.header
        if header.not_finite:
            return cls(first.stamp, header, None)
        vector = np.empty(header.parameters, dtype=np.float32)
        receiver = Receiver(vector)
        async for part in parts:
            receiver.write(part.chunk)
        receiver.finish(header.digest)
        return cls(first.stamp, header, vector)

    def with_vector(self, vector: Vector) -> Self:
        """The same submission of another vector, (d,) float32, contiguous."""
        header = pb.MomentumHeader()
        header.CopyFrom(self.header)
        header.digest = digest(vector)
        return replace(self, header=header, vector=vector)
