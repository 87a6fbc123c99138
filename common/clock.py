"""Time as an argument, so that a test, or a trial of a worker, can be the clock."""

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


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self._now = 0.0
        self._moved = asyncio.Event()

    def now(self) -> float:
        """The present, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self._now += seconds
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Return when the event is set, or `until` is reached."""
        while not event.is_set() and (until is None or self._now < until):
            either = [asyncio.create_task(one.wait()) for one in (event, self._moved)]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in either:
                    task.cancel()
