"""The table of all rules and pre-aggregations: for people at a terminal, and in the documentation."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

import ostrakon.common.markdown
from ostrakon.common.aggregation.guarantees import least_resilience, least_robustness
from ostrakon.common.aggregation.naming import PRE_AGGREGATIONS, RULES, rule
from ostrakon.common.aggregation.pre_aggregations import PRE_AGGREGATION_MAKERS
from ostrakon.common.aggregation.registry import EXAMPLES, RULE_MAKERS
from ostrakon.common.aggregation.rule import Rule, check_minority
from ostrakon.common.errors import OstrakonError

HEADINGS = ("rule", "phases", "result", "λ", "κ", "time", "memory", "source")


class Line(NamedTuple):
    """One rule, or a pre-aggregation, whose phases are `+`."""

    name: str
    phases: str
    result: str
    resilience: str
    robustness: str
    time: str
    memory: str
    source: str


def lines(n: int, f: int) -> list[Line]:
    """All there is, with its constants for n rows of which f may lie."""
    found = []
    for one in _all():
        numbers = ("-", "-") if _refusal(one, n, f) is None else ("n/a", "n/a")
        if one.guarantee is not None and numbers[0] == "-":
            numbers = _number(one.guarantee.resilience(n, f)), _number(one.guarantee.robustness(n, f))
        phases = "2" if one.two_phase else "1"
        result = one.formula + _parameters(RULE_MAKERS.get(one.name))
        found.append(Line(one.name, phases, result, *numbers, one.cost.time, one.cost.memory, one.source))
    for before in PRE_AGGREGATIONS.values():
        cost = before.cost
        result = before.formula + _parameters(PRE_AGGREGATION_MAKERS[before.name])
        found.append(Line(before.name, "+", result, "", "", cost.time, cost.memory, before.source))
    return found


def refusals(n: int, f: int) -> list[str]:
    """Why some rules cannot be used with n and f."""
    return [refusal for one in _all() if (refusal := _refusal(one, n, f)) is not None]


def title(n: int, f: int) -> str:
    """What the numbers are for, and the least that any rule can have.

    Raises:
        OstrakonError: f is not below n/2.
    """
    check_minority(n, f)
    least = _number(least_resilience(n, f)), _number(least_robustness(n, f))
    return f"n = {n} rows, f = {f}. No rule can have λ below {least[0]} or κ below {least[1]}."


def terminal(n: int, f: int, width: int) -> Table:
    """The table for `rich`, on so many columns of text; where they are few, without the last columns of the table."""
    shown = len(HEADINGS) if width >= 140 else 5
    notes = refusals(n, f)
    if shown < len(HEADINGS):
        notes.append(f"A terminal of 140 columns, or a file, gets {', '.join(HEADINGS[shown:])} too.")
    table = Table(title=title(n, f), box=SIMPLE_HEAD, caption="\n".join(notes), caption_justify="left")
    for heading in HEADINGS[:shown]:
        table.add_column(heading, no_wrap=heading not in ("result", "time", "memory", "source"))
    for line in lines(n, f):
        table.add_row(*line[:shown])
    return table


def markdown(n: int, f: int) -> str:
    """The table for the documentation."""
    rows = [(f"`{line.name}`", *line[1:]) for line in lines(n, f)]
    table = ostrakon.common.markdown.table(HEADINGS, rows)
    return "\n\n".join([title(n, f), table, *(f"{refusal}." for refusal in refusals(n, f))])


def update(page: Path, n: int, f: int) -> None:
    """Put the table, made anew, in its place on a page.

    Raises:
        OstrakonError: the page has no place for it.
    """
    ostrakon.common.markdown.renew(page, "the table of rules", markdown(n, f))


def _all() -> list[Rule]:
    return [*RULES.values(), *(rule(example) for example in EXAMPLES)]


def _parameters(make: Callable[..., object] | None) -> str:
    names = inspect.signature(make).parameters.values() if make else ()
    listed = ", ".join(f"{one.name} = {one.default}" for one in names if one.default is not None)
    return f"; {listed}" if listed else ""


def _refusal(one: Rule, n: int, f: int) -> str | None:
    try:
        one.check(n, f)
    except OstrakonError as refusal:
        return str(refusal)
    return None


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
