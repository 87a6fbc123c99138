"""Waiting for a server that is down, as long as one was told to, unless waiting is pointless."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError
from ostrakon.worker.transport import CallFailed

FIRST, LONGEST = 0.1, 5.0  # seconds; doubling, with jitter
jitter = Random()  # its own: the global one is seeded for each pass through a model, alike in all workers
LASTING = 8  # attempts between two looks at why


class Backoff:
    """Pauses between attempts."""

    def __init__(
        self,
        clock: Clock,
        diagnose: Callable[[], str | None],
        offload: Callable[..., Awaitable[Any]],
        *,
        timeout: float,
    ) -> None:
        """`diagnose` says, blocking, why the server cannot be reached if no waiting will help; `timeout`: seconds
        without an answer after which that is so in any case.
        """
        self._clock = clock
        self._diagnose = diagnose
        self._offload = offload
        self._timeout = timeout
        self._silent_since: float | None = None

    async def pause(self, attempt: int, failure: CallFailed) -> None:
        """Wait before the next attempt; `attempt` = 0, 1, ... have failed in a row, the last one with `failure`.

        Raises:
            OstrakonError: it has lasted for a while, and waiting longer would not help.
        """
        now = self._clock.now()
        if failure.answered:
            self._silent_since = None
        elif attempt == 0 or self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= self._timeout:
            raise OstrakonError(
                f"no answer from the server for {self._timeout:g} s (setting server_timeout): the run may be over, for "
                "a server leaves some seconds after its last round. Where it is not, start this process again"
            )
        if attempt % LASTING == 3:
            sentence = await self._offload(self._diagnose)
            if sentence is not None:
                raise OstrakonError(sentence)
        seconds = min(LONGEST, FIRST * 2 ** min(attempt, 10)) * jitter.uniform(0.5, 1.0)
        await self._clock.wait(asyncio.Event(), now + seconds)
