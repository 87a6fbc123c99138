"""The worker on trial: a command that is run for it, or a person who starts it."""

import asyncio
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ostrakon.common.errors import OstrakonError


class Worker(Protocol):
    """The lives of a worker, one at a time.

    Attributes:
        first_call: seconds that it may take from its start to its first call.
        watched: whether its end is seen; else it has ended when it calls no more.
    """

    first_call: float
    watched: bool

    async def start(self) -> None:
        """Let it live."""
        ...

    async def ended(self) -> int:
        """Wait for its end; its exit status. Where that is not seen, it never returns."""
        ...

    async def kill(self) -> None:
        """End it, whatever it does."""
        ...


class Command:
    """A command, its output in a file."""

    first_call = 120.0
    watched = True

    def __init__(self, command: str, log: Path) -> None:
        """Split as a shell would split it; no shell runs it.

        Raises:
            OstrakonError: it has no word, or a quotation mark without its other half.
        """
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise OstrakonError(f"--run {command!r} cannot be split into words ({error})") from None
        if not self._words:
            raise OstrakonError("--run is empty: give the command that starts the worker")
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it."""
        try:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._words, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise OstrakonError(f"--run {shlex.join(self._words)!r} cannot be run: {error.strerror}") from None

    async def ended(self) -> int:
        """Its exit status."""
        if self._process is None:
            raise RuntimeError("it was never started")
        return await self._process.wait()

    async def kill(self) -> None:
        """With all that it has started."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


class ByHand:
    """Somebody starts it when told to."""

    first_call = 600.0
    watched = False

    def __init__(self, tell: Callable[[str], None], how: str) -> None:
        self._tell, self._how = tell, how

    async def start(self) -> None:
        """Ask for it."""
        self._tell(self._how)

    async def ended(self) -> int:
        """Never seen."""
        never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await never

    async def kill(self) -> None:
        """Ask for that too."""
        self._tell("end the worker if it is still running")
