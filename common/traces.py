"""Exceptions in one line: what was raised, and where, in the user's own files if it was there."""

import sysconfig
import traceback
from pathlib import Path

_LONGEST = 500  # characters of an exception that are shown
_OURS = f"{Path(__file__).parents[1]}/"
_OTHERS = ("<", *(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")))


def last_line(error: BaseException) -> str:
    """What Python prints last of an exception, `ValueError: not this one`, in one line that is cut where it is long."""
    try:
        said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    except Exception:  # a user's exception may not even be printable
        said = ""
    if isinstance(error, SystemExit):
        said = f"the code ends the process, with status {said or 0}"
    else:
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."


def place(error: BaseException, *, ours: bool = False) -> str:
    """Where in the user's files an exception comes from: ` (mytask.py, line 12, in losses)`; empty if in none.

    Args:
        ours: where it is in none of the user's files, one of this program's will do.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_short(error.filename)}, line {error.lineno})"
    frames = [f for f in reversed(traceback.extract_tb(error.__traceback__)) if not f.filename.startswith(_OTHERS)]
    users = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    for frame in users or (frames if ours else []):
        return f" ({_short(frame.filename)}, line {frame.lineno}, in {frame.name})"
    return ""


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
