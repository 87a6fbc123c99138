"""How users name attacks: `SF`, `SF(scale=10)`, and over time `SF@0,Omn@100`."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import parse_call, unknown
from ostrakon.common.schedule import NONE, Schedule, read_schedule
from ostrakon.worker.attacks.registry import ATTACKS, Attack, Knows

_GREATEST = float(np.finfo(np.float32).max)


def attack(text: str) -> Attack:
    """The attack that a user named: a name, with parameters in parentheses if any.

    >>> attack("SF(scale=10)").parameters
    {'scale': 10}

    Raises:
        OstrakonError: the attack or a parameter is unknown, or a parameter cannot have such a value.
    """
    name, parameters = parse_call(text)
    if name not in ATTACKS:
        raise unknown("attack", name, (*ATTACKS, NONE))
    entry = ATTACKS[name]
    kinds = get_type_hints(entry.function)
    for parameter, value in parameters.items():
        if parameter not in entry.parameters:
            known = ", ".join(entry.parameters) or "none"
            raise OstrakonError(f"attack {name} has no parameter {parameter} (known: {known})")
        _check(f"attack {name} cannot use {parameter} = {value!r}", kinds[parameter], value)
    knows: Knows = "colluding" if parameters.get("of") == "corrupted" else entry.knows
    return Attack(text.strip(), knows, entry.function, parameters, entry.flips_labels, entry.side_by_side)


def attack_schedule(text: str | None) -> Schedule[Attack]:
    """Attacks that change with the rounds: `SF@0,Omn@100`; nothing where there is no text.

    Raises:
        OstrakonError: the text or an attack in it cannot be read.
    """
    return Schedule() if text is None else read_schedule(text, attack)


def needs_colluders(attack: str | None) -> str:
    """The first attack of a schedule that a worker cannot mount alone; empty where there is none.

    Raises:
        OstrakonError: the text or an attack in it cannot be read.
    """
    return next((each.name for each in attack_schedule(attack).all() if each.knows != "alone"), "")


def _check(refusal: str, kind: Any, value: Any) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise OstrakonError(f"{refusal}: give one of {', '.join(map(repr, get_args(kind)))}")
    elif kind is int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise OstrakonError(f"{refusal}: give a whole number, not negative")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not _fits(value):
        raise OstrakonError(f"{refusal}: give a finite float32 number")
    elif kind is float and value <= 0:  # it would turn the attack around, or off
        raise OstrakonError(f"{refusal}: give a number above 0")


def _fits(value: float) -> bool:
    return abs(value) <= _GREATEST  # false for NaN
