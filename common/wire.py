"""Vectors on the wire: little-endian values in chunks of 1 MiB, written once, received where they belong."""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.bf16 import Half
from ostrakon.common.reasons import Reason
from ostrakon.v1 import parameter_server_pb2 as pb

PROTOCOL = 3
CHUNK_BYTES = 1 << 20  # smaller costs CPU, larger is slower, and this fits gRPC's default message limit

MOST_OPEN_CALLS = 8  # of one identity, that a server keeps open; an honest worker has one or two

REFUSAL_KEY = "ostrakon-refusal-bin"  # of the trailing metadata: a serialised `Refusal`
IDENTITY_KEY = "ostrakon-identity"  # of the metadata of a caller without a certificate: its URN

Vector = NDArray[np.float32]


class WireError(Exception):
    """Bytes that cannot become the vector they were announced as.

    Attributes:
        reason: the name under which the event is counted.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def chunks(vector: Vector | Half) -> Iterator[pb.Chunk]:
    """Cut a vector (d,) into chunks, in order."""
    data = vector.data.cast("B")
    for offset in range(0, len(data), CHUNK_BYTES):
        yield pb.Chunk(offset=offset, data=bytes(data[offset : offset + CHUNK_BYTES]))


class Receiver:
    """Writes chunks into memory that was reserved for them, and accepts nothing else."""

    def __init__(self, memory: Vector | Half) -> None:
        """`memory`: (d,), contiguous; it is written from its start to its end."""
        self._bytes = memory.data.cast("B")
        self._received = 0
        self._sha256 = hashlib.sha256()

    @property
    def received(self) -> int:
        """How many bytes have come."""
        return self._received

    @property
    def complete(self) -> bool:
        """Whether every byte has come."""
        return self._received == len(self._bytes)

    def write(self, chunk: pb.Chunk) -> None:
        """Take the next chunk.

        Raises:
            WireError: it does not begin where the last one ended, is empty, or goes past the end.
        """
        data = chunk.data  # once: each time it is asked for, it is copied
        size = len(data)
        if chunk.offset != self._received:
            raise WireError(
                Reason.WRONG_OFFSET, f"expected a chunk at byte {self._received}, got one at {chunk.offset}"
            )
        if size == 0:
            raise WireError(Reason.WRONG_LENGTH, f"the chunk at byte {chunk.offset} is empty")
        if self._received + size > len(self._bytes):
            raise WireError(
                Reason.TOO_MUCH_DATA,
                f"expected {len(self._bytes)} bytes in all, got at least {self._received + size}",
            )
        self._bytes[self._received : self._received + size] = data
        self._sha256.update(data)
        self._received += size

    def finish(self, digest: str) -> None:
        """Check the whole vector once its stream has ended.

        Raises:
            WireError: bytes are missing, or the content is not what `digest` names.
        """
        if not self.complete:
            raise WireError(Reason.WRONG_LENGTH, f"expected {len(self._bytes)} bytes, got {self._received}")
        found = self._sha256.hexdigest()
        if found != digest:
            raise WireError(Reason.WRONG_DIGEST, f"the bytes have digest {found}, the header announced {digest}")


def check_finite(vector: Vector) -> None:
    """Refuse a received vector (d,) with NaN or Inf in it.

    Raises:
        WireError: a value is not finite.
    """
    step = CHUNK_BYTES // 4  # in blocks: no (d,) temporary
    for start in range(0, len(vector), step):
        finite = np.isfinite(vector[start : start + step])
        if not finite.all():
            index = start + int(np.argmin(finite))
            raise WireError(Reason.NOT_FINITE, f"value {index} is {vector[index]}; every value must be finite")
