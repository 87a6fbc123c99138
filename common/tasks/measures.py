"""What a task's models are measured by beside the loss: numbers of each example, and what is made of their means."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import ContractBroken, Task, described
from ostrakon.common.tasks.user_code import user_code

ACCURACY = "accuracy"
_LONGEST = 40  # characters of a name
_TAKEN = ("loss", "round")


@dataclass(frozen=True)
class Measures:
    """A model on test data.

    Attributes:
        values: of each measure, by name, the headline first; NaN or infinite where they come out so.
        loss: mean loss; NaN or infinite if that of an example is.
        shares: the names of those that are shares of examples, 0 to 1.
    """

    values: Mapping[str, float]
    loss: float
    shares: frozenset[str]


class Totals:
    """Sums over the examples that were measured so far, block by block."""

    def __init__(self) -> None:
        self._examples = 0
        self._loss = 0.0
        self._sums: dict[str, float] = {}
        self._shares: set[str] = set()

    def add(self, losses: Tensor, found: Mapping[str, Tensor]) -> None:
        """Count a block of m examples: their losses, (m,), and their measures, (m,) each.

        Raises:
            OstrakonError: the measures have other names than those of the block before.
        """
        if self._examples and self._sums.keys() != found.keys():
            raise OstrakonError(
                f"measures has names {', '.join(found)} for one batch and {', '.join(self._sums)} for another: return "
                "the same ones each time"
            )
        self._examples += len(losses)
        self._loss += losses.sum(dtype=torch.float64).item()
        for name, values in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + values.sum(dtype=torch.float64).item()
            if values.dtype == torch.bool:
                self._shares.add(name)

    def finish(self, task: Task) -> Measures:
        """What they come to.

        Raises:
            OstrakonError: the task's `finish` raises, or returns something else than numbers by name.
        """
        means = {name: total / self._examples for name, total in self._sums.items()}
        values = means
        if type(task).finish is not Task.finish:
            with user_code(f"task {type(task).__name__}: finish"):
                values = _finished(task, means)
        shares = {name for name in self._shares if values.get(name) == means[name]}
        return Measures(values, self._loss / self._examples, frozenset(shares))


def has_own_measures(task: Task) -> bool:
    """Whether a task is measured by something else than the accuracy."""
    return type(task).measures is not Task.measures or type(task).finish is not Task.finish


def checked(found: Any, m: int) -> dict[str, Tensor]:
    """What `Task.measures` returned for m examples.

    Raises:
        ContractBroken: it is something else than numbers of each example, by name.
    """
    for name, values in _named(found, "{'error': (outputs - labels).abs()}").items():
        if not isinstance(values, Tensor) or values.shape != (m,) or values.is_complex():
            raise ContractBroken(
                f"{name!r} is {described(values)}: expected one number for each example, ({m},); what is made of their "
                "means is for `finish`"
            )
    return dict(found)


def _finished(task: Task, means: Mapping[str, float]) -> dict[str, float]:
    """What `finish` makes of the means. A model may be as bad as it likes: 0 / 0 is NaN, an overflow infinite.

    What raises all the same, as `math.exp` does, leaves NaN in all of them.
    """
    with np.errstate(all="ignore"):
        try:
            return _numbers(task.finish({name: np.float64(mean) for name, mean in means.items()}))
        except (ArithmeticError, ValueError):
            unknown = {name: np.float64(math.nan) for name in means}
            return dict.fromkeys(_numbers(task.finish(unknown)), math.nan)


def _numbers(found: Any) -> dict[str, float]:
    numbers = {}
    for name, value in _named(found, "{'rmse': means['squared'] ** 0.5}").items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ContractBroken(f"{name!r} is a {described(value)}: expected a number") from None
    return numbers


def _named(found: Any, example: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping) or not found:
        raise ContractBroken(f"it returned {_kind(found)}: expected a dict with a name for each, as in {example}")
    for name in found:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable() or name in _TAKEN:
            raise ContractBroken(
                f"{str(name)[:_LONGEST]!r} is no name of a measure: expected a text of up to {_LONGEST} letters, not "
                f"{' or '.join(_TAKEN)}"
            )
    return found


def _kind(found: Any) -> str:
    return "nothing" if found is None or found == {} else f"a {described(found)}"
