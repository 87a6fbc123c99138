"""How a machine of a test bed can fail, by the names that users write."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import parse_call, unknown
from ostrakon.common.schedule import NONE, Schedule, read_schedule


class Fault(Enum):
    """Everything that can break, by the name that users write."""

    SILENT = "silent"
    SLOW = "slow"
    CRASH_BEFORE_SUBMIT = "crash-before-submit"
    CRASH_MID_STREAM = "crash-mid-stream"
    CRASH_BEFORE_VOTE = "crash-before-vote"
    CRASH_AFTER_VOTE = "crash-after-vote"
    HALF_STREAM = "half-stream"
    WRONG_LENGTH = "wrong-length"
    WRONG_OFFSET = "wrong-offset"
    NAN = "nan"
    INF = "inf"
    HUGE = "huge"
    ZEROS = "zeros"
    STALE_ROUND = "stale-round"
    FUTURE_ROUND = "future-round"
    WRONG_TERM = "wrong-term"
    WRONG_RUN = "wrong-run"
    SAME_TWICE = "same-twice"
    OTHER_TWICE = "other-twice"
    TWO_VOTES = "two-votes"
    VOTE_AS_ANOTHER = "vote-as-another"
    FLOOD = "flood"
    TWIN = "twin"


PARAMETERS: Mapping[Fault, Mapping[str, float]] = {
    Fault.SLOW: {"seconds": 30.0},  # that a submission is late
    Fault.FLOOD: {"calls": 200},  # opened at once, in every round
}
"""What can be set, with its default."""


MOST = 1_000_000  # that a parameter can be


@dataclass(frozen=True)
class Planned:
    """A fault with its parameter."""

    fault: Fault
    amount: float = 0.0


def fault(text: str) -> Planned:
    """The fault that a user named, with its parameter in parentheses if it has one: `slow(seconds=5)`.

    Raises:
        OstrakonError: the fault or the parameter is unknown, or its value is no positive number.
    """
    name, given = parse_call(text)
    known = {each.value: each for each in Fault}
    if name not in known:
        raise unknown("fault", name, (*known, NONE))
    found = known[name]
    parameters = dict(PARAMETERS.get(found, {}))
    for parameter, value in given.items():
        if parameter not in parameters:
            names = ", ".join(parameters) or "none"
            raise OstrakonError(f"fault {name} has no parameter {parameter} (known: {names})")
        kinds = (int, float) if found is Fault.SLOW else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= MOST:
            what = "number" if found is Fault.SLOW else "whole number"
            raise OstrakonError(
                f"fault {name} cannot use {parameter} = {value!r}: give a {what} above 0, up to {MOST:,}"
            )
        parameters[parameter] = value
    return Planned(found, *parameters.values())


def fault_schedule(text: str | None) -> Schedule[Planned]:
    """Faults that come and go with the rounds: `silent@20,none@40`; none where there is no text.

    Raises:
        OstrakonError: the text or a fault in it cannot be read.
    """
    return Schedule() if text is None else read_schedule(text, fault, "silent@20,none@40")
