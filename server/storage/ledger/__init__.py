"""What was committed, and who may commit: the one place where a round is decided for good.

Every implementation keeps four promises, over all servers, restarts and terms: one entry per round; each entry
builds on the one before; no entry of a term smaller than the largest drawn; what `Committed` was said of survives.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ostrakon.server.storage.ledger.entry import CountedVote, Entry, Genesis, Parent


@dataclass(frozen=True)
class Committed:
    """The entry is in the ledger, durably."""


@dataclass(frozen=True)
class Already:
    """The round was committed before: `entry` is what counts (it may be the very one that was offered)."""

    entry: Entry


@dataclass(frozen=True)
class Fenced:
    """Another server drew the larger `term`: this one must stop."""

    term: int


@dataclass(frozen=True)
class Unknown:
    """It cannot be said whether the entry is in the ledger: read it back, never decide the round again."""

    reason: str


Tried = Committed | Already | Fenced | Unknown


class Ledger(Protocol):
    """Every method may be called from any thread. A ledger that cannot be read raises OstrakonError."""

    def genesis(self) -> Genesis | None:
        """The run's genesis; None before `create`."""
        ...

    def create(self, genesis: Genesis) -> None:
        """Begin the run.

        Raises:
            OstrakonError: the ledger has a genesis.
        """
        ...

    def draw_term(self, holder: str) -> int:
        """Draw a term strictly larger than any before, durably; `holder` says who drew it."""
        ...

    def terms(self) -> Mapping[int, str]:
        """Every term drawn and its holder."""
        ...

    def head(self) -> Entry | None:
        """The entry of the last committed round; None before the first."""
        ...

    def entry(self, round: int) -> Entry | None:
        """The entry of one round; None where it is not committed."""
        ...

    def entries(self) -> Iterator[Entry]:
        """All entries by round."""
        ...

    def try_commit(self, entry: Entry) -> Tried:
        """Commit the round after the head, if `entry.term` is the largest drawn and nobody did so before.

        Raises:
            ValueError: the entry does not follow the head (round, base or previous): a programming error.
            OstrakonError: the ledger is not where it was opened any more: nothing that it says counts.
        """
        ...

    def exclusively(self, term: int, work: Callable[[], None]) -> int:
        """Do `work` while nobody can draw a term or commit, unless `term` is not the largest drawn.

        Returns:
            The largest term; where it is another one, nothing was done.
        """
        ...

    def close(self) -> None:
        """Release the ledger; it may be opened again."""
        ...


__all__ = [
    "Already",
    "Committed",
    "CountedVote",
    "Entry",
    "Fenced",
    "Genesis",
    "Ledger",
    "Parent",
    "Tried",
    "Unknown",
]
