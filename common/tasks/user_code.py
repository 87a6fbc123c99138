"""A user's code, called: whatever it does instead of answering becomes one sentence that says where."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import ostrakon
from ostrakon.common.errors import OstrakonError

_LONGEST = 300  # characters of an exception that are shown
_NOT_USERS = tuple(
    f"{path}/"
    for path in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        Path(ostrakon.__file__).parent,
    )
)


class UserCodeFailed(OstrakonError):
    """User code raised something.

    Attributes:
        cause: what it raised.
    """

    def __init__(self, sentence: str, cause: BaseException) -> None:
        super().__init__(sentence)
        self.cause = cause


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Around a call of user code; `what` says which, as in `task Mine: losses`.

    An `OstrakonError` passes: that is a task which says in its own words what it misses. So does a lack of memory.

    Raises:
        UserCodeFailed: the code raised, or wanted to end the process.
    """
    try:
        yield
    except (OstrakonError, MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeFailed(f"{what}: {last_line(error)}{place(error)}", error) from error


def last_line(error: BaseException) -> str:
    """What Python would print last of an exception: `ValueError: not this one`, cut where it is very long."""
    try:
        said = str(error).strip()
    except Exception:  # a user's exception may not even be printable
        said = ""
    *_, last = said.splitlines() or [""]
    if isinstance(error, SystemExit):
        last = f"the code ends the process, with status {last or 0}"
    else:
        last = f"{type(error).__name__}: {last}" if last else type(error).__name__
    return last if len(last) <= _LONGEST else f"{last[:_LONGEST]} ..."


def place(error: BaseException) -> str:
    """Where in the user's files an exception comes from: ` (mytask.py, line 12, in losses)`; empty if in none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_short(error.filename)}, line {error.lineno})"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<", *_NOT_USERS)):
            return f" ({_short(frame.filename)}, line {frame.lineno}, in {frame.name})"
    return ""


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
