"""Scenarios: coroutines that a test plays to their end in one process, under a clock that the test moves."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

LIMIT = 60.0  # seconds, real ones, after which a scenario that hangs is a failed one

T = TypeVar("T")


def play(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario, which must not hang."""
    return asyncio.run(asyncio.wait_for(scenario, LIMIT))


async def reached(condition: Callable[[], Any]) -> None:
    """Let everybody else run until the condition holds."""
    while not condition():
        await asyncio.sleep(0)


async def settle() -> None:
    """Let everything happen that can happen by itself."""
    for _ in range(200):
        await asyncio.sleep(0)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """End these tasks, whatever they are waiting for."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def inline(function: Callable[..., T], *arguments: Any) -> T:
    """Blocking work done on the spot: nothing here takes long, and no thread makes the order a matter of luck."""
    return function(*arguments)


class FakeClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = 0.0
        self._moved = asyncio.Event()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        while not event.is_set() and (until is None or self._now < until):
            either = [asyncio.create_task(one.wait()) for one in (event, self._moved)]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in either:
                    task.cancel()


class Impatient(FakeClock):
    """A worker's clock whose pauses are over at once: the time that passes is counted, not spent."""

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        await asyncio.sleep(0)
        if until is not None and until > self.now():
            self.advance(until - self.now())
