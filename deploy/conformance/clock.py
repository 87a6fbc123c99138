"""The server's time, which stands still until a scene lets it pass: how long a worker takes never decides a round."""

import asyncio


class ScenesClock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self._now = 0.0
        self._moved = asyncio.Event()

    def now(self) -> float:
        """The present."""
        return self._now

    def skip(self, seconds: float) -> None:
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
