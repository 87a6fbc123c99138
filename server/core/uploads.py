"""Momenta on their way into their rows: one stream per member, a bounded number at a time, each in bounded time."""

import asyncio
from collections.abc import AsyncIterator

from ostrakon.common.bf16 import Wire, upper_half, widened
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import CHUNK_BYTES, Receiver, Vector, WireError, check_finite
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.streams import Displaced, Streams
from ostrakon.server.settings import ServerSettings
from ostrakon.v1 import parameter_server_pb2 as pb

SMALLEST_CHUNKS = CHUNK_BYTES // 16  # on average: a part costs the server's time, however little is in it
FEWEST_PARTS = 16  # that every upload may have


class Uploads:
    """Receives uploads. A row belongs to one stream; closing the phase closes them all."""

    def __init__(self, slots: int, timeout: float, rate: float, wire: Wire = "float32") -> None:
        """`slots` uploads are received at a time; the others wait, which is not counted against them.

        An upload's next part has to be there `timeout` seconds after its start, and one second later for every `rate`
        bytes that have come: one that stalls is closed soon, one that trickles too, and none of B bytes takes longer
        than timeout + B/rate. `wire` says how vectors come.
        """
        self._slots = asyncio.Semaphore(slots)
        self._timeout = timeout
        self._rate = rate
        self._wire = wire
        self._streams = Streams[str]()

    async def header(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.MomentumPart:
        """The first part of an upload.

        Raises:
            Refused: it is no header, or does not come in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                first = await anext(parts, None)
        except TimeoutError:
            raise self._slow() from None
        if first is None or first.WhichOneof("part") != "header":
            raise Refused(Reason.NO_HEADER, "expected a MomentumHeader as the first part")
        return first

    async def receive(
        self, member: str, parts: AsyncIterator[pb.MomentumPart], row: Vector, first: pb.MomentumPart
    ) -> None:
        """Write the chunks of one upload, whose header was `first`, into the member's row, (d,) float32.

        Raises:
            Refused: they are not the finite vector that the header names, belong elsewhere, come too slowly, or the
                row is no longer this stream's.
        """
        try:
            with self._streams.claim(member):
                async with self._slots, asyncio.timeout(self._timeout) as deadline:
                    start = asyncio.get_running_loop().time()
                    half = self._wire == "bf16"
                    receiver, count = Receiver(upper_half(row) if half else row), 0
                    async for part in parts:
                        if part.WhichOneof("part") != "chunk":
                            raise WireError(Reason.NO_CHUNK, "expected chunks after the header")
                        if part.stamp != first.stamp:
                            raise WireError(
                                Reason.MIXED_STAMPS, "every part carries the run, term and round of its header"
                            )
                        if not self._streams.holds(member):
                            raise Displaced
                        receiver.write(part.chunk)
                        count += 1
                        if count > FEWEST_PARTS + row.nbytes / SMALLEST_CHUNKS:
                            raise WireError(Reason.TOO_MANY_PARTS, f"send chunks of {CHUNK_BYTES} bytes")
                        deadline.reschedule(start + self._timeout + receiver.received / self._rate)
                    if not self._streams.holds(member):
                        raise Displaced
                    receiver.finish(first.header.digest)
                    if half:
                        widened(upper_half(row), into=row)
                    check_finite(row)
        except WireError as error:
            raise Refused(error.reason, str(error)) from None
        except TimeoutError:
            raise self._slow() from None
        except Displaced:
            raise Refused(
                Reason.LATE_SUBMISSION,
                "the row was closed during the upload: by the end of the phase, or by a newer upload",
            ) from None

    def __len__(self) -> int:
        """How many uploads are open, waiting ones included."""
        return len(self._streams)

    def close(self, member: str) -> None:
        """Close the member's upload, if one is open."""
        self._streams.close(member)

    def close_all(self) -> None:
        """Close every upload: no stream writes after its phase."""
        self._streams.close_all()

    def _slow(self) -> Refused:
        sentence = (
            f"an upload has to bring {self._rate:g} bytes a second (setting upload_rate) and may be late by "
            f"{self._timeout:g} s (setting upload_timeout)"
        )
        return Refused(Reason.SLOW_UPLOAD, sentence)


def upload_slots(settings: ServerSettings) -> int:
    """Uploads at the same time: one more than liars at least, so that those that hang in theirs keep nobody out."""
    return max(settings.uploads, settings.f + 1)
