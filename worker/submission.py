"""A vector as a worker sends it to the server, and the parts of the stream that it becomes on the wire."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property

from ostrakon.common.bf16 import Half, Wire, rounded
from ostrakon.common.digest import digest
from ostrakon.common.wire import Vector, chunks
from ostrakon.v1 import parameter_server_pb2 as pb


@dataclass(frozen=True)
class Submission:
    """One call of SubmitMomentum or of Restore.

    Attributes:
        stamp: run, term and round that it is for.
        session: name of the sender's process life.
        base: digest of the model that the momentum starts from, or of the model that is restored.
        parameters: d.
        vector: (d,) float32, contiguous; None where the gradient is not finite. It is no copy: nobody writes into it
            until the call is over, and who keeps it longer copies it.
        loss: mean loss of the mini-batch.
        wire: how it travels; values that are none of bfloat16 are rounded.
    """

    stamp: pb.Stamp
    session: str
    base: str
    parameters: int
    vector: Vector | None
    loss: float = 0.0
    wire: Wire = "float32"

    @cached_property
    def sent(self) -> Vector | Half | None:
        """What travels, (d,)."""
        return rounded(self.vector) if self.wire == "bf16" and self.vector is not None else self.vector

    @cached_property
    def digest(self) -> str:
        """The digest of what travels; empty where that is nothing."""
        return "" if self.sent is None else digest(self.sent)

    @property
    def size(self) -> int:
        """Bytes that travel."""
        return 0 if self.sent is None else self.sent.nbytes

    async def parts(self, lane: int = 0, lanes: int = 1, attempt: int = 0) -> AsyncIterator[pb.MomentumPart]:
        """The parts of the stream, or of one of several; every one carries the stamp.

        Args:
            attempt: which several belong together.
        """
        header = pb.MomentumHeader(
            base=self.base,
            parameters=self.parameters,
            session=self.session,
            digest=self.digest,
            loss=self.loss,
            not_finite=self.vector is None,
        )
        if lanes > 1:
            header.lane, header.lanes, header.attempt = lane, lanes, attempt
        yield pb.MomentumPart(stamp=self.stamp, header=header)
        if self.sent is not None:
            for chunk in chunks(self.sent, lane, lanes):
                yield pb.MomentumPart(stamp=self.stamp, chunk=chunk)
