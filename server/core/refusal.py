"""How the server says no: a status, a reason under which it is counted, and a sentence for the reader."""

from collections import Counter
from enum import Enum, auto

DATA_NOT_READABLE = "data not readable"  # the reason under which a member is missing that says so
REVOKED = "revoked"  # the reason under which a member is refused, or missing, that is shut out


class Code(Enum):
    """The gRPC statuses in use, by name; the round logic must not know gRPC."""

    INVALID_ARGUMENT = auto()
    ALREADY_EXISTS = auto()
    PERMISSION_DENIED = auto()
    FAILED_PRECONDITION = auto()
    DEADLINE_EXCEEDED = auto()
    RESOURCE_EXHAUSTED = auto()
    UNAUTHENTICATED = auto()
    UNAVAILABLE = auto()
    NOT_FOUND = auto()
    UNIMPLEMENTED = auto()
    INTERNAL = auto()
    CANCELLED = auto()


class Refused(Exception):
    """A call that is refused.

    Attributes:
        code: the status the caller gets.
        reason: two or three words; refusals are counted under it.
    """

    def __init__(self, code: Code, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.reason = reason


class Refusals:
    """How often calls were refused: members' since the last entry, and those of all others since this server began."""

    def __init__(self) -> None:
        self._members: Counter[tuple[str, str]] = Counter()  # (member, reason)
        self._others: Counter[tuple[str, str]] = Counter()  # ("", reason)

    def count(self, member: str, reason: str) -> int:
        """Count a refused call, with "" for a caller that is no member; returns how often it has happened."""
        counter = self._members if member else self._others
        counter[member, reason] += 1
        return counter[member, reason]

    def counted(self) -> Counter[tuple[str, str]]:
        """All that are in no entry, by (member, reason)."""
        return self._members + self._others

    def take(self) -> Counter[tuple[str, str]]:
        """The members' refusals, for an entry; they count from 0 again."""
        taken, self._members = self._members, Counter()
        return taken
