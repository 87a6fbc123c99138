"""The commit: an entry becomes durable before anyone is told, or nobody is told."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.server.storage.ledger import Already, Committed, Entry, Fenced, Ledger, Unknown

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
                raise taken_over(term, entry.term)
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


def check_not_taken_over(ledger: Ledger, term: int) -> None:
    """Make sure that no other server has taken over since this one drew its term.

    Raises:
        OstrakonError: a larger term was drawn, or the ledger cannot be read.
    """
    largest = max(ledger.terms())
    if largest != term:
        raise taken_over(largest, term)


def unless_taken_over(ledger: Ledger, term: int, work: Callable[[], None]) -> None:
    """Do what would harm another server if this one were stopped before it, and went on after the other has taken over.

    Raises:
        OstrakonError: a larger term was drawn, and nothing was done; or the ledger cannot be read.
    """
    largest = ledger.exclusively(term, work)
    if largest != term:
        raise taken_over(largest, term)


def taken_over(largest: int, term: int) -> OstrakonError:
    """What a server of a smaller term ends with."""
    return OstrakonError(
        f"a server with the larger term {largest} has taken over this run from term {term}: "
        "this one ends and changes nothing"
    )
