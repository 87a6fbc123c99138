"""What every command does first, so that it works in whatever shell and on whatever machine it is started."""

import io
import locale
import os
import select
import sys
import tempfile
from pathlib import Path
from typing import Any

_SHORT = 60  # bytes of a folder's path, below which sockets can lie: 107 is the most that a socket's own path may have
_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def called() -> str:
    """How this command is called: `make`, where that has called it, or `ostrakon`."""
    return os.environ.get("OSTRAKON_CALLED", "ostrakon")


def begin() -> None:
    """Mend what this process was started with: call it before anything else opens a file."""
    open_standard_streams()
    _take_short_temporary_folder()
    quiet_grpc()


def quiet_grpc() -> None:
    """Let gRPC, before it starts, say nothing: nobody calls it in a fork, and its failures reach us as statuses."""
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def open_standard_streams(encoding: str | None = None) -> None:
    """Make standard input, output and error usable whatever they are.

    One that is closed becomes /dev/null: the next file that is opened would take its place. Letters that the encoding
    does not have are written as numbers. What nobody reads any more, or no disk takes, goes nowhere; the work goes on.

    Args:
        encoding: of output and error, where it is not the terminal's.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _lead_nowhere(descriptor)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = _text(1, sys.stdout, encoding)
    sys.stderr = _text(2, sys.stderr, encoding)


class _Output(io.FileIO):
    """A descriptor that may be written to for as long as anybody takes it."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
            while written is None:  # it was left non-blocking by whoever started us
                select.select([], [self], [])
                written = super().write(data)
            return written
        except OSError as error:
            descriptor = self.fileno()
            _lead_nowhere(descriptor)
            if descriptor == 1:
                print(f"what is shown goes nowhere any more ({error.strerror}): going on without", file=sys.stderr)
            return len(data)


def _text(descriptor: int, before: Any, encoding: str | None) -> io.TextIOWrapper:
    if before is not None:
        before.flush()
    raw = _Output(descriptor, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding or getattr(before, "encoding", None) or locale.getpreferredencoding(),
        errors="backslashreplace",
        line_buffering=descriptor == 2 or raw.isatty() or getattr(before, "write_through", False),
    )


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    os.set_inheritable(descriptor, True)


def _take_short_temporary_folder() -> None:
    """Temporary files go where a socket's path is not too long, whatever TMPDIR says."""
    try:
        folder = tempfile.gettempdir()
    except OSError:  # there is none: whoever needs one will say so
        return
    if len(os.fsencode(folder)) > _SHORT:
        usable = (other for other in _FOLDERS if Path(other).is_dir() and os.access(other, os.W_OK | os.X_OK))
        tempfile.tempdir = next(usable, folder)
