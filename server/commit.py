"""The commit: an entry becomes durable before anyone is told, or nobody is told."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from common.errors import OstrakonError
from server.ledger import Already, Committed, Entry, Fenced, Ledger, Unknown

Offload = Callable[..., Awaitable[Any]]  # (function, *args): runs blocking work off the event loop

ATTEMPTS = 3  # of the same entry, after reading back that it is not there


async def make_durable(entry: Entry, ledger: Ledger, offload: Offload) -> None:
    """Make the entry durable before anyone is told.

    Raises:
        OstrakonError: it is not, and nobody may be told.
    """
    reason = ""
    for _ in range(ATTEMPTS):
        outcome = await offload(ledger.try_commit, entry)
        match outcome:
            case Committed():
                return
            case Already(there) if there.hash == entry.hash:
                return
            case Already(there):
                raise OstrakonError(
                    f"round {entry.round} is committed already, by the server of term {there.term}: "
                    "another server serves this run; this one ends and changes nothing"
                )
            case Fenced(term):
                raise OstrakonError(fenced(term, entry.term))
            case Unknown(why):
                reason = why
        # Unknown: read, never decide again. Only the very same entry is offered once more.
        with contextlib.suppress(OstrakonError):
            there = await offload(ledger.entry, entry.round)
            if there is not None and there.hash == entry.hash:
                return
    raise OstrakonError(
        f"round {entry.round} could not be committed ({reason}): free space or repair the disk and start "
        "again; nothing committed is lost"
    )


def fenced(larger: int, term: int) -> str:
    """What the server of `term` says once there is a `larger` one."""
    return (
        f"a server with the larger term {larger} has taken over this run from term {term}: "
        "this one ends and changes nothing"
    )
