"""What an evaluator has measured, as it stands in evaluations.jsonl."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOSS = "loss"
_ACCURACY = "accuracy"


@dataclass(frozen=True)
class Measurement:
    """A model on the test data.

    Attributes:
        round: of the model; of an average, the last round that it is of.
        values: by name, the headline first; NaN where one was not finite.
        loss: likewise.
        shares: the names of those that are shares of examples, 0 to 1.
    """

    round: int
    values: Mapping[str, float]
    loss: float
    shares: frozenset[str]

    @property
    def headline(self) -> str:
        """The name of the measure that stands for the model."""
        return next(iter(self.values))

    @property
    def value(self) -> float:
        """Of the headline."""
        return self.values[self.headline]

    @property
    def every(self) -> Mapping[str, float]:
        """All that is known of it, the loss too."""
        return {**self.values, LOSS: self.loss}

    def shown(self, name: str) -> str:
        """A value for people."""
        return shown_value(self.every[name], share=name in self.shares)


def shown_value(value: float | None, *, share: bool) -> str:
    """A value for people, in percent where it is a share of examples; None stands for one that is not finite."""
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{100 * value:.1f} %" if share else f"{value:.4g}"


def of_model(line: Mapping[str, Any]) -> Measurement | None:
    """The committed model of a round, if a line is about one."""
    return _read(line, "")


def of_average(line: Mapping[str, Any]) -> Measurement | None:
    """The average of the committed models, if a line is about it."""
    return _read(line, "_of_average")


def _read(line: Mapping[str, Any], of: str) -> Measurement | None:
    accuracy, measures = f"{_ACCURACY}{of}", f"measures{of}"
    if accuracy not in line and measures not in line:
        return None
    values = {_ACCURACY: line[accuracy]} if accuracy in line else line[measures]
    shares = frozenset(line.get("shares", [_ACCURACY]))
    known = {name: _number(value) for name, value in values.items()}
    return Measurement(int(line["round"]), known, _number(line[f"loss{of}"]), shares)


def _number(written: float | None) -> float:
    return math.nan if written is None else float(written)
