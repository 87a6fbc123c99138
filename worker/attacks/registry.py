"""The attacks by the names that users write."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from common.errors import OstrakonError
from common.names import parse_call, unknown
from worker.attacks.blind import Vector, gaussian, sign_flipping, unchanged


@dataclass(frozen=True)
class Attack:
    """What a corrupted worker does. Whatever it is, it also votes for the larger loss.

    Attributes:
        send: (true momentum, random numbers of this worker and round) -> what is sent instead; (d,) float32 both.
        flips_labels: whether the worker trains on `task.flip(labels)`.
    """

    send: Callable[[Vector, np.random.Generator], Vector]
    flips_labels: bool = False


@dataclass(frozen=True)
class _Entry:
    send: Callable[..., Vector]
    parameters: tuple[str, ...] = ()
    flips_labels: bool = False


ATTACKS = {
    "SF": _Entry(sign_flipping, ("scale",)),
    "Gauss": _Entry(gaussian, ("scale",)),
    "LF": _Entry(unchanged, flips_labels=True),
}


def attack(text: str) -> Attack:
    """Look up an attack as a user writes it: a name, with parameters in parentheses if any: `SF(scale=10)`.

    Raises:
        OstrakonError: the attack or a parameter is unknown, or a parameter's value is not a finite number.
    """
    name, parameters = parse_call(text)
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    entry = ATTACKS[name]
    for parameter, value in parameters.items():
        if parameter not in entry.parameters:
            known = ", ".join(entry.parameters) or "none"
            raise OstrakonError(f"attack {name} has no parameter {parameter} (known: {known})")
        if isinstance(value, bool) or not isinstance(value, int | float) or not _fits_float32(value):
            raise OstrakonError(f"attack {name} cannot use {parameter} = {value!r}: give a finite float32 number")
    return Attack(partial(entry.send, **parameters), entry.flips_labels)


def _fits_float32(value: float) -> bool:
    return abs(value) <= float(np.finfo(np.float32).max)  # false for NaN
