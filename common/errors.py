"""What a person is told when something they gave us cannot be used, or a file of theirs."""

import errno
from pathlib import Path


class OstrakonError(Exception):
    """One clear sentence for the user: what was expected, what came, what to do.

    Command lines print the message alone, without a traceback, and exit with status 2.
    """


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_PATHS = {  # what is wrong with a path that was given: no waiting mends it
    errno.ENOENT: ("does not exist", "make it, or correct the path"),
    errno.ENOTDIR: ("leads through a file where a folder is needed", "move that file away, or correct the path"),
    errno.EEXIST: ("is in the way: a folder is needed, not a file or a link to nowhere", "move it away"),
    errno.EISDIR: ("is a folder where a file is needed", "move it away, or correct the path"),
    errno.ELOOP: ("is a link that leads to itself", "remove it, or correct the path"),
    errno.ENAMETOOLONG: ("is too long a path", "use a shorter one"),
    errno.ENOTEMPTY: ("is in the way: a folder that is not empty", "move it away"),
    errno.EXDEV: ("is on another disk than what belongs to it", "move both to one disk"),
    errno.ENXIO: ("is no file to read or write", "move it away, or correct the path"),
    errno.ENODEV: ("is no file to read or write", "move it away, or correct the path"),
    errno.ESTALE: ("is no longer there on its server", "mount its disk anew"),
}


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


def file_trouble(error: OSError) -> str | None:
    """What is wrong with a file or its disk, in a sentence, where it has to be mended before anything goes on.

    None for what may pass, as too many open files or a connection that broke, and for what is no file's.
    """
    trouble = disk_trouble(error)
    if trouble is not None or error.errno not in _PATHS:
        return trouble
    found, wanted = _PATHS[error.errno]
    name = "the current folder" if error.filename is None else readable(error.filename)
    return f"{name} {found} ({error.strerror}): {wanted}"


def readable(path: object) -> str:
    """A path for a sentence: one of thousands of characters is cut in its middle."""
    text = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN // 2]}...{text[-_LONGEST_SHOWN // 2 :]}"


_LONGEST_SHOWN = 300  # characters
