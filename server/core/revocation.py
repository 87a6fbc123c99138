"""Members that are shut out while a run lives: who they are, and what becomes of their seats."""

from collections.abc import Set
from pathlib import Path

import structlog

from ostrakon.common.aggregation import rule
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.identity.revocation import read_revoked
from ostrakon.common.watched_files import WatchedFiles
from ostrakon.server.settings import ServerSettings, check_bound

log = structlog.get_logger()


class Revocations:
    """The list of the revoked, read anew when its file has changed. Who was on it once stays revoked."""

    def __init__(self, path: Path) -> None:
        """Reads the list for the first time.

        Raises:
            OstrakonError: it cannot be used.
        """
        self._path = path
        self._file = WatchedFiles(path)
        self._revoked = read_revoked(path)

    def __call__(self) -> frozenset[Identity]:
        """Everybody who is revoked by now. A list that cannot be used changes nothing, and is said so once."""
        if self._file.changed():
            try:
                self._revoked |= read_revoked(self._path)
            except OstrakonError as error:
                log.warning("nobody more is revoked", why=str(error))
        return self._revoked


def seated(settings: ServerSettings, revoked: Set[str]) -> tuple[str, ...]:
    """The members that count toward quorums, in roster order.

    A revoked member gives up its seat, so that the others can still bear f of them. Where f would then not be below
    n/2, or the rule could not be used with so few, it keeps the seat, and is one of the f that are missing.
    """
    seats = settings.roster
    for member in settings.roster:
        if member in revoked and _can_do_with(settings, len(seats) - 1):
            seats = tuple(other for other in seats if other != member)
    return seats


def _can_do_with(settings: ServerSettings, n: int) -> bool:
    try:
        check_bound(n, settings.f)
        rule(settings.rule).check_run(n, settings.f, asynchronous=settings.quorum == "asynchronous")
    except (OstrakonError, ValueError):
        return False
    return True
