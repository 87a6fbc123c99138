"""Momenta on their way into their rows: one upload per member, a bounded number at a time, each in bounded time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager

from ostrakon.common.bf16 import Half, Wire, upper_half, widened
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import CHUNK_BYTES, LANES, Lanes, Receiver, Vector, WireError, check_finite
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.streams import Displaced, Streams
from ostrakon.server.settings import ServerSettings
from ostrakon.v1 import parameter_server_pb2 as pb

SMALLEST_CHUNKS = CHUNK_BYTES // 16  # on average: a part costs the server's time, however little is in it
FEWEST_PARTS = 16  # that every upload may have
LANES_EACH = 5  # read at a time for each upload that is, beside its first: with that one they keep 2 MiB each

Parts = AsyncIterator[pb.MomentumPart]


class _Woven:
    """An upload that comes over several streams."""

    def __init__(self, first: pb.MomentumPart, memory: Vector | Half) -> None:
        self._begins = _beginning(first)
        self.receiver = Lanes(memory, first.header.lanes)
        self.begun = asyncio.Event()  # its first lane is there
        self.admitted = asyncio.Event()  # it has its slot
        self.progress = asyncio.Event()
        self.whole = False

    def is_of(self, first: pb.MomentumPart) -> bool:
        """Whether this is the upload of a stream that begins so."""
        return self._begins == _beginning(first)

    def went_on(self) -> None:
        """Wake whoever waits for the others' pieces."""
        self.progress.set()
        self.progress = asyncio.Event()


def _beginning(first: pb.MomentumPart) -> bytes:
    alike = pb.MomentumPart()
    alike.CopyFrom(first)
    alike.header.ClearField("lane")
    return alike.SerializeToString(deterministic=True)


class Uploads:
    """Receives uploads. A row belongs to one, of one stream or several; closing the phase closes them all."""

    def __init__(self, slots: int, timeout: float, rate: float, wire: Wire = "float32") -> None:
        """`slots` uploads are received at a time; the others wait, which is not counted against them. So do the other
        lanes of an upload until it has its slot; of those are read `LANES_EACH * slots` at a time, and no more wait.

        An upload's next part has to be there `timeout` seconds after its start, and one second later for every `rate`
        bytes that have come: one that stalls is closed soon, one that trickles too, and none of B bytes takes longer
        than timeout + B/rate. `wire` says how vectors come.
        """
        self._slots = asyncio.Semaphore(slots)
        self._timeout = timeout
        self._rate = rate
        self._wire = wire
        self._streams = Streams[tuple[str, int]]()  # of members' lanes; the only one is number 0
        self._woven: dict[str, _Woven] = {}
        self._room = LANES_EACH * slots  # for more of them, whose uploads they may be

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

    async def receive(self, member: str, parts: Parts, row: Vector, first: pb.MomentumPart) -> bool:
        """Write the chunks of a stream, whose header was `first`, into the member's row, (d,) float32.

        Returns:
            Whether the vector is whole, and checked; False for a lane that is not the first of its upload, whose own
            pieces are there.

        Raises:
            Refused: they are not the finite vector that the header names, belong elsewhere, come too slowly, or the
                row is no longer this stream's; or there is no room for another lane.
        """
        memory, header = upper_half(row) if self._wire == "bf16" else row, first.header
        if header.lane >= max(header.lanes, 1) or header.lanes > LANES:
            raise Refused(Reason.NO_LANE, f"expected a lane below the number of lanes, which is {LANES} at most")
        with self._told():
            if header.lanes > 1:
                await self._lane(member, parts, memory, first)
            else:
                self.close(member)
                receiver = Receiver(memory)
                with self._streams.claim((member, 0)):
                    async with self._slots, asyncio.timeout(self._timeout) as deadline:
                        await self._read((member, 0), parts, first, receiver, receiver.write, deadline)
                        receiver.finish(header.digest)
            if header.lane:
                return False
            if self._wire == "bf16":
                widened(upper_half(row), into=row)
            check_finite(row)
            return True

    async def _lane(self, member: str, parts: Parts, memory: Vector | Half, first: pb.MomentumPart) -> None:
        lane, key = first.header.lane, (member, first.header.lane)
        woven = self._woven.get(member)
        if woven is None or not woven.is_of(first):
            self.close(member)
            woven = self._woven[member] = _Woven(first, memory)
        receiver = woven.receiver

        def write(chunk: pb.Chunk) -> None:
            receiver.write_piece(lane, chunk)
            woven.went_on()

        with self._streams.claim(key):
            if lane:
                async with asyncio.timeout(self._timeout):
                    await woven.begun.wait()
                await woven.admitted.wait()
                with self._one_lane_more():
                    async with asyncio.timeout(self._timeout) as deadline:
                        await self._read(key, parts, first, receiver, write, deadline)
                return
            woven.begun.set()
            try:
                async with self._slots, asyncio.timeout(self._timeout) as deadline:
                    woven.admitted.set()
                    start = asyncio.get_running_loop().time()
                    await self._read(key, parts, first, receiver, write, deadline)
                    while not receiver.complete:
                        await woven.progress.wait()
                        self._put_off(deadline, start, receiver)
                    receiver.finish(first.header.digest)
                    woven.whole = True
            finally:
                if self._woven.get(member) is woven:
                    del self._woven[member]
                    if not woven.whole:
                        self._close(member, range(1, LANES))

    async def _read(
        self,
        key: tuple[str, int],
        parts: Parts,
        first: pb.MomentumPart,
        receiver: Receiver,
        write: Callable[[pb.Chunk], None],
        deadline: asyncio.Timeout,
    ) -> None:
        """Read what follows a header, up to the stream's end."""
        start, count = asyncio.get_running_loop().time(), 0
        async for part in parts:
            if part.WhichOneof("part") != "chunk":
                raise WireError(Reason.NO_CHUNK, "expected chunks after the header")
            if part.stamp != first.stamp:
                raise WireError(Reason.MIXED_STAMPS, "every part carries the run, term and round of its header")
            if not self._streams.holds(key):
                raise Displaced
            write(part.chunk)
            count += 1
            if count > FEWEST_PARTS + receiver.size / SMALLEST_CHUNKS:
                raise WireError(Reason.TOO_MANY_PARTS, f"send chunks of {CHUNK_BYTES} bytes")
            self._put_off(deadline, start, receiver)
        if not self._streams.holds(key):
            raise Displaced

    def _put_off(self, deadline: asyncio.Timeout, start: float, receiver: Receiver) -> None:
        deadline.reschedule(start + self._timeout + receiver.received / self._rate)

    @contextmanager
    def _one_lane_more(self) -> Iterator[None]:
        if not self._room:
            raise Refused(Reason.NO_LANE, "as many lanes as there is room for are being read: send it over one stream")
        self._room -= 1
        try:
            yield
        finally:
            self._room += 1

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong inside, as it is told to the caller."""
        try:
            yield
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
        return len({member for member, _ in self._streams.callers()})

    def close(self, member: str) -> None:
        """Close the member's upload, if one is open."""
        self._woven.pop(member, None)
        self._close(member, range(LANES))

    def _close(self, member: str, lanes: Iterable[int]) -> None:
        for lane in lanes:
            self._streams.close((member, lane))

    def close_all(self) -> None:
        """Close every upload: no stream writes after its phase."""
        self._woven.clear()
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
