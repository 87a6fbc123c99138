"""What one caller may ask of the server: so many calls at a time, and so many, and so many bytes, in a while.

Every call costs the one event loop some time, a refused one too. A caller that asks for more than its share waits for
its turn: it slows down itself, and nobody else.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakValueDictionary

from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import CHUNK_BYTES, LANES, MOST_OPEN_CALLS, MOST_OPEN_UPLOADS
from ostrakon.server.core.refusal import Refused

# A caller's share, in calls: a MiB moved counts as one. An honest worker makes four calls a round, sends one vector and
# is sent three; twice of that, some retries and the lanes of an upload are free in every round, whatever follows comes
# at RATE.
FREE_CALLS = 16 + LANES
FREE_VECTORS = 8
RATE = 20.0  # a second

FIRST_MESSAGES = 8  # of one caller that are read at a time: until then a call may bring as much as a chunk has

MOST_WAITING = 256  # calls of one caller that wait for their turn; each takes about 50 kB of memory meanwhile


class Quota:
    """Counts calls while they last, and what they cost."""

    def __init__(self, values: int = 0) -> None:
        """`values`: d, how long a vector is."""
        self._open: Counter[tuple[Identity, bool]] = Counter()  # uploads apart
        self._free = FREE_CALLS + FREE_VECTORS * 4 * values / CHUNK_BYTES
        self._round = 0
        self._waiting: Counter[Identity | None] = Counter()
        self._firsts: WeakValueDictionary[Identity, asyncio.Semaphore] = WeakValueDictionary()  # while they are read
        self._paid: dict[Identity | None, float] = {}  # when, by the loop's time, all that a caller asked is paid off

    @contextmanager
    def admit(self, caller: Identity, *, upload: bool = False) -> Iterator[None]:
        """Count a call while inside; `upload`: it may be one of many that bring one vector.

        Raises:
            Refused: the caller has too many open already.
        """
        key, most = (caller, upload), MOST_OPEN_UPLOADS if upload else MOST_OPEN_CALLS
        if self._open[key] >= most:
            raise Refused(Reason.TOO_MANY_CALLS, f"{caller.urn} has {most} calls open already")
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    @asynccontextmanager
    async def first_message(self, caller: Identity) -> AsyncIterator[None]:
        """Wait until one more call of the caller's may bring its first message, which is read inside."""
        firsts = self._firsts.setdefault(caller, asyncio.Semaphore(FIRST_MESSAGES))
        async with firsts:
            yield

    def of(self, caller: Identity) -> int:
        """How many the caller has open, with the one that asks."""
        return self._open[caller, False] + self._open[caller, True]

    async def turn(self, caller: Identity | None, round: int) -> None:
        """Wait until the caller may have another call; None stands for all callers without an identity.

        HTTP/2 lets a connection have a few calls at a time: while they wait here, it can make no others. Who opens
        connections by the dozen has more waiting than the server wants to remember, and is answered at once then.

        Args:
            round: the round that is being decided; a new one gives everybody a new share.
        """
        if round != self._round:
            self._round = round
            self._paid.clear()
        self._charge(caller, 1.0)
        wait = self._paid[caller] - _now() - self._free / RATE
        if wait <= 0 or self._waiting[caller] >= MOST_WAITING:
            return
        self._waiting[caller] += 1
        try:
            await asyncio.sleep(wait)
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    def moved(self, caller: Identity | None, size: int) -> None:
        """Count bytes that came from or went to the caller."""
        self._charge(caller, size / CHUNK_BYTES)

    def _charge(self, caller: Identity | None, cost: float) -> None:
        self._paid[caller] = max(self._paid.get(caller, 0.0), _now()) + cost / RATE


def _now() -> float:
    return asyncio.get_running_loop().time()
