"""Vectors on the wire: little-endian values in chunks of 1 MiB, written once, received where they belong."""

import hashlib
from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.bf16 import Half
from ostrakon.common.reasons import Reason
from ostrakon.v1 import parameter_server_pb2 as pb

PROTOCOL = 3
CHUNK_BYTES = 1 << 20  # smaller costs CPU, larger is slower, and this fits gRPC's default message limit

LANES = 24  # streams that an upload may come over at once: as many chunks are under way on a long line
MOST_OPEN_CALLS = 8  # of one identity, that a server keeps open, uploads apart; an honest worker has one or two
MOST_OPEN_UPLOADS = 8 + LANES  # likewise: the lanes of one, and some of one before that is about to end

REFUSAL_KEY = "ostrakon-refusal-bin"  # of the trailing metadata: a serialised `Refusal`
ADMITTED_KEY = "ostrakon-admitted"  # of an upload's initial metadata: its header was not refused
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


def chunks(vector: Vector | Half, lane: int = 0, lanes: int = 1) -> Iterator[pb.Chunk]:
    """Cut a vector (d,) into chunks, in order; of several lanes, those that this one brings."""
    data = vector.data.cast("B")
    for piece in pieces(len(data), lanes)[lane::lanes]:
        yield pb.Chunk(offset=piece.start, data=bytes(data[piece]))


def pieces(size: int, lanes: int = 1) -> list[slice]:
    """Where so many bytes are cut: lane k of several brings every `lanes`-th piece, from the k-th on.

    The first piece of lane k is (k + 1) / lanes of a chunk, all others are whole chunks. With equal ones lanes that
    share a line would be through with theirs at one time, and all wait together until the next ones are asked for.

    >>> [piece.stop - piece.start for piece in pieces(5 << 19, lanes=2)]
    [524288, 1048576, 1048576]
    """
    firsts = [CHUNK_BYTES * (lane + 1) // lanes for lane in range(lanes)]
    ends = list(accumulate(firsts))
    ends += range(ends[-1] + CHUNK_BYTES, size + CHUNK_BYTES, CHUNK_BYTES)
    cuts = [0, *(end for end in ends if end < size), size]
    return [slice(start, stop) for start, stop in pairwise(cuts)] if size else []


class Receiver:
    """Writes chunks into memory that was reserved for them, and accepts nothing else."""

    def __init__(self, memory: Vector | Half) -> None:
        """`memory`: (d,), contiguous; it is written from its start to its end."""
        self._bytes = memory.data.cast("B")
        self._received = 0
        self._sha256 = hashlib.sha256()

    @property
    def size(self) -> int:
        """How many bytes the memory has."""
        return len(self._bytes)

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


class Lanes(Receiver):
    """Receives one vector over several streams, each of which brings its own pieces in order."""

    def __init__(self, memory: Vector | Half, lanes: int) -> None:
        """`memory`: as above; `lanes`: how many streams."""
        super().__init__(memory)
        self._pieces = pieces(len(self._bytes), lanes)
        self._lanes = lanes
        self._next = list(range(lanes))  # the piece that each lane has to bring now
        self._came = [False] * len(self._pieces)
        self._hashed = 0  # pieces: all before the first that is missing

    def write_piece(self, lane: int, chunk: pb.Chunk) -> None:
        """Take the next piece of a lane.

        Raises:
            WireError: it is another one, has not its size, or the lane has brought all of its pieces.
        """
        number, data = self._next[lane], chunk.data
        if number >= len(self._pieces):
            raise WireError(Reason.TOO_MUCH_DATA, f"lane {lane} has brought all of its pieces")
        piece = self._pieces[number]
        if chunk.offset != piece.start:
            raise WireError(
                Reason.WRONG_OFFSET, f"expected a chunk at byte {piece.start} in lane {lane}, got one at {chunk.offset}"
            )
        if len(data) != piece.stop - piece.start:
            raise WireError(
                Reason.WRONG_LENGTH, f"expected {piece.stop - piece.start} bytes at {piece.start}, got {len(data)}"
            )
        self._bytes[piece] = data
        self._received += len(data)
        self._next[lane] += self._lanes
        self._came[number] = True
        while self._hashed < len(self._came) and self._came[self._hashed]:
            self._sha256.update(self._bytes[self._pieces[self._hashed]])
            self._hashed += 1


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
