"""Why a call is refused, and why a member does not count in a round: in words, as ledgers and people read them.

When the server says each of them, and what a worker does about it, stands in parameter_server.proto.
"""

from enum import StrEnum
from typing import Any, TypeVar

from ostrakon.v1 import parameter_server_pb2 as pb


class Reason(StrEnum):
    """Why a call is refused."""

    NO_IDENTITY = "no identity"
    WRONG_ROLE = "wrong role"
    NOT_ON_THE_ROSTER = "not on the roster"
    REVOKED = "revoked"
    NO_SUCH_METHOD = "no such method"
    NO_SUCH_SERVICE = "no such service"
    TOO_MANY_CALLS = "too many calls"
    RECOVERING = "recovering"
    INTERNAL_ERROR = "internal error"
    WRONG_PROTOCOL = "wrong protocol"
    WRONG_RUN = "wrong run"
    WRONG_TERM = "wrong term"
    NOT_JOINED = "not joined"
    OLDER_SESSION = "older session"
    WRONG_ROUND = "wrong round"
    WRONG_BASE = "wrong base"
    LATE_SUBMISSION = "late submission"
    EARLY_VOTE = "early vote"
    MODEL_REPLACED = "model replaced"
    EQUIVOCATION = "equivocation"
    ALREADY_SUBMITTED = "already submitted"
    SECOND_VOTE = "second vote"
    NO_MESSAGE = "no message"
    LONG_MESSAGE = "long message"
    NOT_A_MESSAGE = "not a message"
    LONG_NAME = "long name"
    DIFFERENT_TASK = "different task"
    DIFFERENT_MODEL = "different model"
    DIFFERENT_DIGEST = "different digest"
    NO_SESSION = "no session"
    NO_HEADER = "no header"
    NO_CHUNK = "no chunk"
    MIXED_STAMPS = "mixed stamps"
    WRONG_OFFSET = "wrong offset"
    WRONG_LENGTH = "wrong length"
    TOO_MUCH_DATA = "too much data"
    TOO_MANY_PARTS = "too many parts"
    WRONG_DIGEST = "wrong digest"
    NOT_FINITE = "not finite"
    NO_CHOICE = "no choice"
    SLOW_MESSAGE = "slow message"
    SLOW_UPLOAD = "slow upload"
    NEWER_UPLOAD = "newer upload"
    OLDER_SESSION_CLOSED = "older session closed"


class Missing(StrEnum):
    """Why a member does not count in a committed round."""

    NO_SUBMISSION = "no submission"
    GRADIENT_NOT_FINITE = "gradient not finite"
    DATA_NOT_READABLE = "data not readable"
    REVOKED = "revoked"
    NO_VOTE = "no vote"
    SILENT = "silent"


Why = TypeVar("Why", Reason, Missing)


def to_wire(kind: type[Reason] | type[Missing], word: str) -> str:
    """The name of a reason's number, which a message takes in its place.

    A word that this program does not know, from an entry of another version, is UNSPECIFIED there.
    """
    try:
        return _name(kind(word))
    except ValueError:
        return f"{kind.__name__}_UNSPECIFIED".upper()


def from_wire(kind: type[Why], number: int) -> Why | None:
    """The reason of a number in a message; None for UNSPECIFIED, and for one of a newer program."""
    return _BY_NUMBER[kind].get(number)


def _name(why: Reason | Missing) -> str:
    return f"{type(why).__name__}_{why.name}".upper()


_BY_NUMBER: dict[type, dict[int, Any]] = {
    Reason: {pb.Reason.Value(_name(why)): why for why in Reason},
    Missing: {pb.Missing.Value(_name(why)): why for why in Missing},
}
