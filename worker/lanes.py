"""Over how many connections at once a worker sends its momentum."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from ostrakon.common.wire import CHUNK_BYTES, LANES

MOST_CONNECTIONS = 1024  # of all workers: a server takes somewhat more, and others than workers call too
LONG, SLOW = 0.02, 1.0  # seconds a chunk takes, from which on a line may be a long one, and is only a slow one
GAIN = 1.5  # times as fast at least, or one connection does as well
FIRST_PAUSE = 8  # uploads between a trial that brought nothing and the next one; then twice as many each time

T = TypeVar("T")


@dataclass
class Lanes:
    """One lane until several are worth their connections.

    A stream has one chunk under way (`Lanes` in parameter_server.proto), so that on a long line each takes a round
    trip. Whether a line is long, or only slow, is tried out: several lanes are kept where an upload took two thirds of
    the time of one before, or less.
    """

    most: int = LANES
    several: bool = False
    """Whether the next upload goes over several."""
    _kept: bool = False
    _alone: float = 0.0  # seconds a byte over one lane
    _pause: int = 0  # uploads until the next trial
    _next_pause: int = field(default=FIRST_PAUSE)

    def among(self, workers: int) -> None:
        """So many workers share the server's connections."""
        self.most = min(LANES, MOST_CONNECTIONS // max(workers, 1))

    def count(self, size: int) -> int:
        """Over how many lanes the next upload goes, of so many bytes: none without a whole chunk."""
        return max(1, min(self.most, size // CHUNK_BYTES)) if self.several else 1

    def sent_alone(self, size: int, seconds: float, chunk_seconds: float) -> None:
        """An upload over one lane took so long, and the fastest of its chunks `chunk_seconds`."""
        self._alone = seconds / max(size, 1)
        self._pause = max(0, self._pause - 1)
        self.several = LONG <= chunk_seconds <= SLOW and not self._pause and size >= 2 * CHUNK_BYTES

    def sent_over_several(self, size: int, seconds: float) -> None:
        """An upload over several lanes took so long."""
        if not self._kept and GAIN * seconds > self._alone * size:
            self.several, self._pause = False, self._next_pause
            self._next_pause *= 2
        self._kept = self.several

    def failed(self) -> None:
        """The server has no room for so many, or one of them does not get through: half of them may do."""
        self.most = max(1, self.most // 2)


class Pace:
    """How long the fastest chunk of a stream took, from when it could be sent to when the next one could."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.fastest = 0.0

    async def __call__(self, parts: AsyncIterator[T]) -> AsyncIterator[T]:
        """The same parts. The header and the first chunk, for which nobody waits, are not counted."""
        asked: list[float] = []
        async for part in parts:
            asked.append(self._now())
            yield part
        asked.append(self._now())
        self.fastest = min((later - earlier for earlier, later in pairwise(asked[2:])), default=0.0)


async def answer(first: Awaitable[T], *others: Awaitable[T]) -> T:
    """The answer to the first of an upload's streams; the others end with it.

    Raises:
        CallFailed: one of the streams has failed, and with it the upload.
    """
    whole, *rest = every = [asyncio.ensure_future(call) for call in (first, *others)]
    under_way = set(every)
    try:
        while not whole.done():
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            if not whole.done():
                for call in done:
                    call.result()
        return whole.result()
    finally:
        for call in rest:
            call.cancel()
        whole.cancel()
        await asyncio.gather(*every, return_exceptions=True)
