"""The one thread in which a process runs its task's code, from the import on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ostrakon.common.runtime import name_thread

T = TypeVar("T")

THREAD = "task"  # its name


class TaskThread:
    """Much of what tasks use belongs to the thread that made it: a connection to SQLite, say."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, THREAD, name_thread, (THREAD,))

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function there, and wait for it."""
        return self._thread.submit(function, *arguments).result()

    async def offload(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function there, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
