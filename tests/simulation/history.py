"""What happened in a simulation, step by step, and how often each kind of thing did."""

from collections import Counter
from collections.abc import Callable
from random import Random

LAST = 200  # lines that a failing seed prints


class History:
    """Numbered lines with their step and virtual time."""

    def __init__(self, moment: Callable[[], tuple[int, float]]) -> None:
        """`moment` says the step and the time."""
        self._moment = moment
        self._events: list[tuple[int, float, str]] = []
        self.happened: Counter[str] = Counter()

    def note(self, line: str, kind: str = "") -> None:
        """Write a line; count it under its kind, if it has one."""
        self._events.append((*self._moment(), line))
        if kind:
            self.happened[kind] += 1

    def lines(self, last: int | None = None) -> list[str]:
        """All lines, or the last ones."""
        first = 0 if last is None else max(0, len(self._events) - last)
        return [
            f"{number:5}  step {step:6}  {seconds:10.4f} s  {line}"
            for number, (step, seconds, line) in enumerate(self._events[first:], start=first + 1)
        ]


class Chance:
    """Faults that happen by themselves, each with its own probability; none once the faults are over."""

    def __init__(self, rng: Random, rates: dict[str, float], history: History) -> None:
        self._rng = rng
        self._rates = rates
        self._history = history
        self.over = False

    def strikes(self, fault: str, whom: str) -> bool:
        """Whether this fault happens here and now; it is noted then."""
        if self.over:
            return False
        rate = self._rates.get(fault, 0.0)
        if not rate or self._rng.random() >= rate:
            return False
        self._history.note(f"FAULT {fault}: {whom}", fault)
        return True
