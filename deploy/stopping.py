"""The signals that tell a launcher to stop, and the exit statuses that say so: 128 and the signal's number."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from ostrakon.common.lifetime import STOPPING, ignored

CALLED_OFF = 128  # and the signal's number: the exit status of what a signal ended, as shells have it


class Stopped(BaseException):
    """A signal came while nothing had been started yet. No `except Exception`, as in a user's task, is to take it."""


class Stop:
    """Heeds those signals in its `with` block, unless they were inherited as ignored, as under nohup.

    The first one ends what is going on by raising `Stopped`; after `note()` it is only kept, in `signal`, for the
    launcher to see: its processes then have to be ended in good order.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._raises = True
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def status(self) -> int:
        """The exit status that says which signal came; 0 where none did."""
        return 0 if self.signal is None else CALLED_OFF + self.signal

    def note(self) -> None:
        """From now on only keep the signal."""
        self._raises = False

    def __enter__(self) -> Self:
        for number in STOPPING:
            if not ignored(number):
                self._previous[number] = signal.signal(number, self._heed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
        if self._raises:
            raise Stopped
