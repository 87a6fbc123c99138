"""Waiting for a server that is down, as long as it takes, unless waiting is pointless."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError

FIRST, LONGEST = 0.1, 5.0  # seconds; doubling, with jitter
jitter = Random()  # its own: the global one is seeded for each pass through a model, alike in all workers
LASTING = 8  # attempts between two looks at why


class Backoff:
    """Pauses between attempts."""

    def __init__(
        self, clock: Clock, diagnose: Callable[[], str | None], offload: Callable[..., Awaitable[Any]]
    ) -> None:
        """`diagnose` says, blocking, why the server cannot be reached if no waiting will help."""
        self._clock = clock
        self._diagnose = diagnose
        self._offload = offload

    async def pause(self, attempt: int) -> None:
        """Wait before the next attempt; `attempt` = 0, 1, ... have failed in a row.

        Raises:
            OstrakonError: it has lasted for a while, and waiting longer would not help.
        """
        if attempt % LASTING == 3:
            sentence = await self._offload(self._diagnose)
            if sentence is not None:
                raise OstrakonError(sentence)
        seconds = min(LONGEST, FIRST * 2 ** min(attempt, 10)) * jitter.uniform(0.5, 1.0)
        await self._clock.wait(asyncio.Event(), self._clock.now() + seconds)
