"""The server's learning rate over the rounds of a run: `0.1`, `0.5@0,0.05@200`, `0.1*warmup(30)*cosine(400)`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import PlainValidator

from ostrakon.common.algorithm import Step
from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import read_call, unknown
from ostrakon.common.schedule import NONE, Schedule, read_schedule
from ostrakon.common.setting_types import check_float32

_EXAMPLE = "0.5@0,0.05@200 or 0.1*warmup(30)*cosine(400)"
_LONGEST = 2**53  # rounds that a float can count


def _warmup(round: int, rounds: int) -> float:
    """Rises evenly, from 1/rounds in round 1 to 1 in round `rounds`, and stays there."""
    return min(round, rounds) / rounds


def _cosine(round: int, rounds: int) -> float:
    """Falls along half a cosine, from 1 in round 1 to almost 0 in round `rounds`, and is 0 from then on.

    Source: Loshchilov & Hutter 2017, SGDR, without restarts.
    """
    return (1 + math.cos(math.pi * min(round - 1, rounds) / rounds)) / 2


_FACTORS: Mapping[str, Callable[[int, int], float]] = MappingProxyType({"warmup": _warmup, "cosine": _cosine})


@dataclass(frozen=True)
class Rate:
    """A number, and what it is multiplied by in a round: names of factors with how many rounds they last."""

    number: float
    factors: tuple[tuple[str, int], ...] = ()

    def at(self, round: int) -> float:
        """Its value in a round, counted from 1 at the beginning of the run."""
        return math.prod((_FACTORS[name](round, rounds) for name, rounds in self.factors), start=self.number)

    def __str__(self) -> str:
        return "*".join([repr(self.number), *(f"{name}({rounds})" for name, rounds in self.factors)])


@dataclass(frozen=True)
class LearningRate:
    """gamma_t, for every round t of a run."""

    schedule: Schedule[Rate]

    def at(self, round: int) -> float:
        """gamma_t of round t, from 1 on."""
        rate = self.schedule.at(round)
        if rate is None:
            raise RuntimeError(f"no learning rate for round {round}")  # there is one from the start: `learning_rate`
        return rate.at(round)

    @property
    def largest(self) -> float:
        """No gamma_t is larger."""
        return max(rate.number for rate in self.schedule.all())

    @property
    def plain(self) -> float | str:
        """As it is kept: a number where it is one throughout, otherwise a text, the same for the same schedule."""
        (first, rate), *others = [(first, rate) for first, rate in self.schedule.stages if rate is not None]
        if not others:
            return str(rate) if rate.factors else rate.number
        return ",".join(f"{rate}@{first}" for first, rate in [(first, rate), *others])


@lru_cache(maxsize=256)
def learning_rate(value: float | str) -> LearningRate:
    """Read what users write.

    >>> [learning_rate("0.5*warmup(4),0.05@200").at(round) for round in (1, 2, 4, 199, 200)]
    [0.125, 0.25, 0.5, 0.5, 0.05]
    >>> [round(learning_rate("0.1*cosine(400)").at(t), 4) for t in (1, 201, 400, 401)]
    [0.1, 0.05, 0.0, 0.0]

    Raises:
        OstrakonError: it is no schedule of learning rates that float32 can hold, or says nothing of the first round.
    """
    schedule = read_schedule(str(value), _rate, example=_EXAMPLE)
    if any(rate is None for _, rate in schedule.stages):
        raise OstrakonError(f"{NONE} is no learning rate: write a number, as in {_EXAMPLE}")
    if schedule.at(1) is None:
        raise OstrakonError(f"it says nothing of the first round: write the rate to begin with, as in {_EXAMPLE}")
    return LearningRate(schedule)


def step_of(gamma: float | str, weight_decay: float, round: int) -> Step:
    """The step of a round: gamma_t, and what weight decay leaves of theta_{t-1}, 1 - gamma_t * weight_decay.

    Args:
        gamma: as `learning_rate` reads it.
        weight_decay: decoupled from the aggregate, as in SGDW and AdamW (Loshchilov & Hutter 2019).
        round: t, from 1 on.
    """
    rate = learning_rate(gamma).at(round)
    return Step(rate, 1 - rate * weight_decay)


def check_decay(gamma: float | str, weight_decay: float) -> None:
    """Refuse a weight decay that would leave nothing of a model, or turn it around.

    Raises:
        ValueError: at the largest learning rate it would.
    """
    if (most := learning_rate(gamma).largest) * weight_decay >= 1:
        raise ValueError(
            f"weight_decay = {weight_decay} at gamma = {most} leaves nothing of a model: their product must be below 1"
        )


def _setting(value: Any) -> float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a number or a text, as in {_EXAMPLE}")
    try:
        return learning_rate(value if isinstance(value, str) else float(value)).plain
    except OverflowError:
        raise ValueError("expected a number that float32 can hold") from None
    except OstrakonError as error:
        raise ValueError(str(error)) from None


Gamma = Annotated[float | str, PlainValidator(_setting)]
"""A learning rate as a setting: kept as `LearningRate.plain`."""


def _rate(text: str) -> Rate:
    number, *factors = (part.strip() for part in text.split("*"))
    try:
        value = float(number)
    except ValueError:
        raise OstrakonError(f"{text!r} does not begin with a number: write {_EXAMPLE}") from None
    return Rate(_positive(value), tuple(map(_factor, factors)))


def _positive(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise OstrakonError(f"expected a finite number above 0, found {value}")
    try:
        return check_float32(value)
    except ValueError as error:
        raise OstrakonError(f"{error}, found {value}") from None


def _factor(text: str) -> tuple[str, int]:
    name, positional, named = read_call(text, "cosine(400)")
    if name not in _FACTORS:
        raise unknown("factor of a learning rate", name, _FACTORS)
    rounds = positional[0] if len(positional) == 1 and not named else None
    if not isinstance(rounds, int) or isinstance(rounds, bool) or not 1 <= rounds <= _LONGEST:
        raise OstrakonError(f"{text!r} cannot be read: write {name}(ROUNDS), as in {name}(400)")
    return name, rounds
