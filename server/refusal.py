"""How the server says no: a status, a reason under which it is counted, and a sentence for the reader."""

from enum import Enum, auto

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
