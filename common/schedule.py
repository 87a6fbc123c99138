"""What changes with the rounds of a run: `SF@0,Omn@100` is SF at first, and Omn from round 100 on."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ostrakon.common.errors import OstrakonError

T = TypeVar("T")

NONE = "none"
"""What users write for a stage in which there is nothing."""

_COMMA = re.compile(r",(?![^()]*\))")  # outside parentheses
_LAST_ROUND = 2**63 - 1


@dataclass(frozen=True)
class Schedule(Generic[T]):
    """Stages in the order of their first rounds; before the first of them, and in a stage of None, there is nothing."""

    stages: tuple[tuple[int, T | None], ...] = ()

    def at(self, round: int) -> T | None:
        """What holds in a round."""
        found: T | None = None
        for first, what in self.stages:
            if round >= first:
                found = what
        return found

    def all(self) -> list[T]:
        """Everything that holds at some time."""
        return [what for _, what in self.stages if what is not None]


def read_schedule(text: str, read: Callable[[str], T], example: str = "SF@0,Omn@100") -> Schedule[T]:
    """Read stages separated by commas, each a name and the first round of its stage; without one, round 0.

    >>> read_schedule("SF(scale=2),none@50", str).stages
    ((0, 'SF(scale=2)'), (50, None))

    Args:
        read: from the text of one stage to what it means; may raise OstrakonError.
        example: what to show to whom wrote something else.

    Raises:
        OstrakonError: a stage has no name or no such round, or does not begin after the one before it.
    """
    stages: list[tuple[int, T | None]] = []
    for part in _COMMA.split(text):
        name, _, start = part.rpartition("@") if "@" in part else (part, "", "0")
        name, start = name.strip(), start.strip()
        if not re.fullmatch(r"[0-9]{1,19}", start, re.ASCII) or int(start) > _LAST_ROUND or not name:
            raise OstrakonError(f"{part.strip()!r} in {text!r} cannot be read: write NAME@ROUND, as in {example}")
        first = int(start)
        if stages and first <= stages[-1][0]:
            raise OstrakonError(f"{text!r}: {name!r} from round {first} on begins no later than what stands before it")
        stages.append((first, None if name == NONE else read(name)))
    return Schedule(tuple(stages))
