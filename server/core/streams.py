"""At most one open stream per caller and purpose: a slow or hostile reader or writer can hold no more."""

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Caller = TypeVar("Caller", bound=Hashable)


class Displaced(Exception):
    """A newer stream of the same caller, or the end of the phase, has closed this one."""


class Streams(Generic[Caller]):
    """The open streams of one purpose, by caller."""

    def __init__(self) -> None:
        self._open: dict[Caller, asyncio.Task[Any]] = {}

    @contextmanager
    def claim(self, caller: Caller) -> Iterator[None]:
        """Be the caller's one stream while inside; its earlier one is closed.

        Raises:
            Displaced: this one was closed by `close`, `close_all` or a newer claim.
        """
        task = _task()
        if self._open.get(caller) is not task:
            self.close(caller)
        self._open[caller] = task
        try:
            yield
        except asyncio.CancelledError:
            if self.holds(caller):  # the caller went away; nobody here closed its stream
                raise
            task.uncancel()
            raise Displaced from None
        finally:
            if self.holds(caller):
                del self._open[caller]

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def callers(self) -> list[Caller]:
        """Whose are open."""
        return list(self._open)

    def holds(self, caller: Caller) -> bool:
        """Whether the running task is still the caller's one stream."""
        return self._open.get(caller) is _task()

    def close(self, caller: Caller) -> None:
        """Close the caller's stream, if one is open."""
        task = self._open.pop(caller, None)
        if task is not None:
            task.cancel()

    def close_all(self) -> None:
        """Close every stream."""
        for caller in self.callers():
            self.close(caller)


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("streams are read and written inside tasks")
    return task
