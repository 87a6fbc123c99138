"""What a person is told when something they gave us cannot be used."""

import errno
from pathlib import Path

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


class OstrakonError(Exception):
    """One clear sentence for the user: what was expected, what came, what to do.

    Command lines print the message alone, without a traceback, and exit with status 2.
    """


def disk_trouble(error: OSError, path: Path | None = None) -> str | None:
    """What a disk wants that is full or over its quota, read-only or broken; None if it is something else.

    `path` is what was to be written, where the error does not name it.
    """
    name = path if path is not None else error.filename or "a file"
    if error.errno in _NO_SPACE:
        found, wanted = "no space left for", "free space"
    elif error.errno == errno.EROFS or (error.errno in _FORBIDDEN and (path or error.filename)):
        found, wanted = "no right to write", "make it and its folder writable"
    elif error.errno == errno.EIO:
        found, wanted = "the disk fails at", "repair the disk"
    else:
        return None
    return f"{found} {name} ({error.strerror}): {wanted} and start again; nothing committed is lost"
