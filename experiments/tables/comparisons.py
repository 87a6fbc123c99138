"""The table of votes, and that of what the authors' published code does otherwise than the paper's text says."""

from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from types import MappingProxyType
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import unknown
from ostrakon.experiments.tables.conditions import Conditions, rates
from ostrakon.experiments.tables.plan import Cell, Plan
from ostrakon.experiments.tables.settings import TableSettings
from ostrakon.experiments.yardsticks import HONEST, IDEAL

ATTACKS = ("LF", "SF", "Gauss", "Omn", "Empire", "SV")
TAILORED = (*ATTACKS, "PGA")
_ALL = (*TAILORED, "ALIE", "Mimic", "Min-Max")

_PAPERS_VOTE = "loss on 3"
VOTES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "average of the honest": {"rule": HONEST, "attack": "none"},  # the same beside every attack: computed once
        "ideal vote": {"vote": IDEAL},
        _PAPERS_VOTE: {"vote": "loss"},
        "loss on 16": {"vote": "loss", "vote_batch": 16},
        "loss on 64": {"vote": "loss", "vote_batch": 64},
        "proximity": {"vote": "proximity"},
        "momentum": {"vote": "momentum"},
        "mixed on 16": {"vote": "mixed", "vote_batch": 16},
        "mixed on 64": {"vote": "mixed", "vote_batch": 64},
    }
)
"""Rows of the table of votes: in what each differs from Mean2P."""

TEXT, ALL = "as the text says", "all of these"
MOMENTUM, WHOLE, SV_OF_MEAN, CEILING = "one momentum for all", "vote on all data", "SV by u_i/n", "f = ceil(rate n)"
DEPARTURES = (TEXT, MOMENTUM, WHOLE, SV_OF_MEAN, CEILING, ALL)
_WHOLE_TRAINING_SET = 930  # images: 15 of each of 62 classes
_BLOCKS = (("Mean2P", 0.4), ("Avg", 0.4), ("Krum", 0.1), ("CWTM", 0.1))


def votes(name: str, chosen: TableSettings) -> Plan:
    """Criteria of the vote down, attacks across, homogeneous and heterogeneous.

    Raises:
        OstrakonError: a setting cannot be used.
    """
    if (chosen.vote, chosen.vote_batch) != ("loss", 3):
        raise OstrakonError("the table of votes compares all criteria: leave VOTE and VOTE_BATCH out")
    rows = _known(chosen.chosen("rules", VOTES), VOTES)
    cells: list[Cell] = []
    for where in (Conditions("homogeneous", 0.4, chosen), Conditions("heterogeneous", 0.2, chosen)):
        if chosen.rates is None or where.rate in rates((), chosen):
            cells += _votes(where, rows)
    return Plan(name, "Mean2P, by the criterion of its vote", "table", "vote", tuple(cells))


def _votes(where: Conditions, rows: Iterable[str]) -> Iterator[Cell]:
    for row in rows:
        known = "Mean2P" if row == _PAPERS_VOTE else None
        for attack in where.chosen.chosen("attacks", _ALL):
            changed = {"rule": "Mean2P", **VOTES[row]}
            yield where.cell(f"{where.setting}, rate {where.rate:g}", row, attack, known=known, **changed)


def departures(name: str, chosen: TableSettings) -> Plan:
    """What the published code does otherwise down, attacks across, for rules that it may concern.

    Raises:
        OstrakonError: a setting cannot be used.
    """
    rows = _known(chosen.chosen("rules", DEPARTURES), DEPARTURES)
    cells: list[Cell] = []
    for rule, rate in _BLOCKS:
        where = Conditions("homogeneous", rate, chosen)
        if chosen.rates is None or rate in rates((), chosen):
            cells += _departures(where, rule, rows)
    return Plan(name, "what the published code does otherwise than the text", "table", "as published", tuple(cells))


def _departures(where: Conditions, rule: str, rows: Iterable[str]) -> Iterator[Cell]:
    attacks = where.chosen.chosen("attacks", ATTACKS)
    changes = {attack: _changed(where, rule, attack) for attack in attacks}
    for row in rows:
        if row not in (TEXT, ALL) and not any(row in changed for changed in changes.values()):
            continue  # it does not concern this rule
        for attack, changed in changes.items():
            of_row = changed.values() if row == ALL else [changed.get(row, {})]
            settings = {name: value for one in of_row for name, value in one.items()}
            yield where.cell(f"{rule}, rate {where.rate:g}", row, attack, known=rule, rule=rule, **settings)


def _changed(where: Conditions, rule: str, attack: str) -> dict[str, dict[str, Any]]:
    """The settings that each departure changes in a cell; none where it changes nothing."""
    n = where.chosen.workers
    changed: dict[str, dict[str, Any]] = {MOMENTUM: {"momentum": "shared"}}
    if rule.endswith("2P"):
        changed[WHOLE] = {"vote_batch": _WHOLE_TRAINING_SET}
    if attack == "SV":
        changed[SV_OF_MEAN] = {"attack": f"SV(factor={20 / n:.4g},of='honest')"}
    if rule in ("Krum", "CWTM"):
        changed[CEILING] = {"f": ceil(where.rate * n)}
    return changed


def _known(rows: tuple[str, ...], names: Iterable[str]) -> tuple[str, ...]:
    for row in rows:
        if row not in names:
            raise unknown("row of this table", row, tuple(names))
    return rows
