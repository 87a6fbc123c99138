"""Scenarios: coroutines that a test plays to their end in one process, under a clock that the test moves."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ostrakon.common.clock import ManualClock

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


class Impatient(ManualClock):
    """A worker's clock whose pauses are over at once: the time that passes is counted, not spent."""

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        await asyncio.sleep(0)
        if until is not None and until > self.now():
            self.advance(until - self.now())
