"""How the server says no: a status, a reason under which it is counted, and a sentence for the reader."""

from collections import Counter
from collections.abc import Mapping
from enum import Enum, auto

from ostrakon.common.reasons import Reason


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


CODES: Mapping[Reason, Code] = {
    reason: code
    for code, reasons in {
        Code.UNAUTHENTICATED: (Reason.NO_IDENTITY,),
        Code.PERMISSION_DENIED: (Reason.WRONG_ROLE, Reason.NOT_ON_THE_ROSTER, Reason.REVOKED),
        Code.UNIMPLEMENTED: (Reason.NO_SUCH_METHOD,),
        Code.NOT_FOUND: (Reason.NO_SUCH_SERVICE,),
        Code.RESOURCE_EXHAUSTED: (Reason.TOO_MANY_CALLS, Reason.NO_LANE),
        Code.UNAVAILABLE: (Reason.RECOVERING,),
        Code.INTERNAL: (Reason.INTERNAL_ERROR,),
        Code.FAILED_PRECONDITION: (
            *(Reason.WRONG_PROTOCOL, Reason.WRONG_RUN, Reason.WRONG_TERM, Reason.NOT_JOINED, Reason.OLDER_SESSION),
            *(Reason.WRONG_ROUND, Reason.WRONG_BASE, Reason.LATE_SUBMISSION, Reason.EARLY_VOTE, Reason.MODEL_REPLACED),
        ),
        Code.ALREADY_EXISTS: (Reason.EQUIVOCATION, Reason.ALREADY_SUBMITTED, Reason.SECOND_VOTE),
        Code.INVALID_ARGUMENT: (
            *(Reason.NO_MESSAGE, Reason.LONG_MESSAGE, Reason.NOT_A_MESSAGE, Reason.LONG_NAME, Reason.NO_SESSION),
            *(Reason.DIFFERENT_TASK, Reason.DIFFERENT_MODEL, Reason.DIFFERENT_DIGEST),
            *(Reason.NO_HEADER, Reason.NO_CHUNK, Reason.MIXED_STAMPS, Reason.WRONG_OFFSET, Reason.WRONG_LENGTH),
            *(Reason.TOO_MUCH_DATA, Reason.TOO_MANY_PARTS, Reason.WRONG_DIGEST, Reason.NOT_FINITE, Reason.NO_CHOICE),
        ),
        Code.DEADLINE_EXCEEDED: (Reason.SLOW_MESSAGE, Reason.SLOW_UPLOAD),
        Code.CANCELLED: (Reason.NEWER_UPLOAD,),
    }.items()
    for reason in reasons
}
"""The status of each refusal."""


class Refused(Exception):
    """A call that is refused.

    Attributes:
        reason: refusals are counted under it.
        code: the status the caller gets.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.code = CODES[reason]


class Refusals:
    """How often calls were refused: members' since the last entry, and those of all others since this server began."""

    def __init__(self) -> None:
        self._members: Counter[tuple[str, str]] = Counter()  # (member, reason)
        self._others: Counter[tuple[str, str]] = Counter()  # ("", reason)

    def count(self, member: str, reason: Reason) -> int:
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
