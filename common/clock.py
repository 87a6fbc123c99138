"""Time as an argument, so that a test can be the clock."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the coordinator and the worker know of time: seconds that only grow, from an arbitrary start."""

    def now(self) -> float:
        """The present, in seconds."""

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Return when the event is set, or at `until` at the latest (None: no such limit)."""


class MonotonicClock:
    """The machine's monotonic clock; wall-clock jumps do not touch it."""

    def now(self) -> float:
        """The present, in seconds."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Return when the event is set, or at `until` at the latest."""
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - self.now())):
                await event.wait()
        except TimeoutError:
            pass
