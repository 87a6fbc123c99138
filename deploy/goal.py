"""When a run is good enough to end before its last round: what `UNTIL` says, and whether it has come."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.measured import LOSS, Measurement

EXAMPLE = "accuracy>=0.9, loss<=0.1, or no higher accuracy in 10"

_VALUE = re.compile(r"(?P<measure>[^<>=]+?) *(?P<sign>>=|<=) *(?P<value>[-+.\w]+) *(?P<percent>%?)")
_STALLED = re.compile(r"no +(?P<way>higher|lower) +(?P<measure>.+?) +in +(?P<times>[0-9]{1,9})", re.ASCII)


@dataclass(frozen=True)
class Goal:
    """What has to come of the measurements on the test data.

    Attributes:
        measure: its name, or "loss".
        higher: whether more of it is better.
        value: to reach; None: it has to have stopped getting better.
        times: for how many measurements in a row.
    """

    measure: str
    higher: bool
    value: float | None = None
    times: int = 0

    def met(self, measurements: Sequence[Measurement]) -> str:
        """That it has come, in half a sentence; empty where it has not.

        Args:
            measurements: all so far, by round.
        """
        values = [self._better(one) for one in measurements]
        if not values:
            return ""
        last = measurements[-1]
        if self.value is not None:
            goal = self.value if self.higher else -self.value
            return f"{self.measure} is {last.shown(self.measure)} in round {last.round}" if values[-1] >= goal else ""
        before, lately = values[: -self.times], values[-self.times :]
        if not before or max(lately) > max(before):
            return ""
        best = measurements[before.index(max(before))]
        return f"{self.measure} was best in round {best.round}, {best.shown(self.measure)}, and is no better since"

    def check(self, names: Iterable[str]) -> None:
        """Refuse a goal that is not measured.

        Raises:
            OstrakonError: it is none of these.
        """
        if self.measure not in (known := (*names, LOSS)):
            raise OstrakonError(f"UNTIL goes by {self.measure!r}, the task is measured by {', '.join(known)}")

    def _better(self, found: Measurement) -> float:
        """How good a model is: the more, the better; one that is not finite is as bad as can be."""
        value = found.every.get(self.measure, math.nan)
        return -math.inf if not math.isfinite(value) else value if self.higher else -value


def read_goal(text: str) -> Goal:
    """Read `accuracy>=0.9`, `accuracy>=90%`, `loss<=0.1`, `no higher accuracy in 10`, `no lower loss in 5`.

    Raises:
        OstrakonError: it is none of these.
    """
    if found := _STALLED.fullmatch(text.strip()):
        if times := int(found["times"]):
            return Goal(found["measure"], found["way"] == "higher", times=times)
    elif found := _VALUE.fullmatch(text.strip()):
        try:
            value = float(found["value"])
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            value = value / 100 if found["percent"] else value
            return Goal(found["measure"], found["sign"] == ">=", value)
    raise OstrakonError(f"{text!r} is nothing that measurements come to: write {EXAMPLE}")
