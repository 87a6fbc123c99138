"""What a person is told when something they gave us cannot be used."""

import errno

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Error numbers of a disk that is full, or over its quota, or read-only."""


class OstrakonError(Exception):
    """One clear sentence for the user: what was expected, what came, what to do.

    Command lines print the message alone, without a traceback, and exit with status 2.
    """
