"""The plans: the paper's tables 1 to 5 and figures 2 to 4, the table of votes, and that of departures.

Sources: the paper, section 5 and appendix D. Beside its rules, heterogeneous tables hold the strongest ones for such
data that are known (NNM: Allouah et al. 2023), alone and as a candidate of a vote.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import unknown
from ostrakon.common.settings import build
from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.tables.paper import Setting, paper
from ostrakon.experiments.tables.plan import Cell, Kind, Plan
from ostrakon.experiments.tables.settings import SOURCE, TableSettings
from ostrakon.experiments.yardsticks import HONEST, IDEAL

RULES = ("Avg", "GM", "CClip", "CWM", "CWTM", "Krum", "Cent2P", "Mean2P")
STRONG = ("Multi-Krum", "NNM+Krum", "NNM+CWTM", "TwoPhase(Mean1P, NNM+CWTM)")
ABLATION = ("Cent1P", "Mean1P", "Cent2P", "Mean2P")
ATTACKS = ("LF", "SF", "Gauss", "Omn", "Empire", "SV")
TAILORED = (*ATTACKS, "PGA")
ALL_ATTACKS = (*TAILORED, "ALIE", "Mimic", "Min-Max")
VOTES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "average of the honest": {"rule": HONEST},
        "ideal vote": {"vote": IDEAL},
        "loss on 3": {"vote": "loss"},
        "loss on 16": {"vote": "loss", "vote_batch": 16},
        "loss on 64": {"vote": "loss", "vote_batch": 64},
        "proximity": {"vote": "proximity"},
        "momentum": {"vote": "momentum"},
        "mixed on 16": {"vote": "mixed", "vote_batch": 16},
        "mixed on 64": {"vote": "mixed", "vote_batch": 64},
    }
)
"""Rows of the table of votes, all of Mean2P but the first: what they change."""

_DATA: Mapping[Setting, tuple[str, str]] = MappingProxyType(
    {
        "homogeneous": ("femnist", "uniform over the classes"),
        "heterogeneous": ("femnist", "classes by Dir(0.1 p)"),
        "cifar10": ("cifar10", "uniform over the classes"),
    }
)
"""The task of each setting, and how its data are partitioned."""

_MADE_UP = ("glyphs", "linear")  # built-in tasks that have no partition


def plan(name: str, settings: TableSettings) -> Plan:
    """The plan that a user named.

    Raises:
        OstrakonError: there is no such plan, rule, attack or rate, or a setting cannot be used with the plan.
    """
    if name not in PLANS:
        raise unknown("plan", name, PLANS)
    made = PLANS[name](name, settings)
    if not made.cells:
        raise OstrakonError(
            f"{name} would have no cell: name at least one of RULES, ATTACKS and RATES, or leave them out"
        )
    return made


@dataclass(frozen=True)
class _Setting:
    """Under which the cells of a block are measured."""

    kind: Setting
    rate: float
    settings: TableSettings

    def cell(self, block: str, row: str, attack: str, **changed: Any) -> Cell:
        values = {**self._common(), "attack": attack, **changed}
        known = None if self.settings.task else paper(self.kind).get((self.rate, row, attack))
        return Cell(block, row, attack, build(Experiment, values, source=SOURCE), known)

    def _common(self) -> dict[str, Any]:
        chosen = self.settings
        task = chosen.task or _DATA[self.kind][0]
        options = None
        if self.kind == "heterogeneous":
            if task in _MADE_UP:
                raise OstrakonError(
                    f"task {task} cannot be partitioned by classes, as a heterogeneous table needs: use femnist, "
                    "cifar10 or a task of your own with an option `partition`"
                )
            options = {"partition": f"dirichlet(alpha=0.1,total={chosen.total:g})"}
        return {
            "task": task,
            "data": chosen.data,
            "options": options,
            "workers": chosen.workers,
            "byzantine": int(self.rate * chosen.workers + 1e-9),  # 3, 7 and 14 of 35
            "vote": chosen.vote,
            "vote_batch": chosen.vote_batch,
            "rounds": chosen.rounds,
            "seed": 1,
            "device": chosen.device,
        }


def _grid(
    kind: Setting,
    rates: Iterable[float],
    rules: Iterable[str],
    attacks: Iterable[str],
    shown: Kind,
    name: str,
    settings: TableSettings,
) -> Plan:
    """Rules down, attacks across, a block for each rate of liars."""
    cells = tuple(
        _Setting(kind, rate, settings).cell(f"rate {rate:g}", rule, attack, rule=rule)
        for rate in _rates(rates, settings)
        for rule in settings.chosen("rules", rules)
        for attack in settings.chosen("attacks", attacks)
    )
    task, partition = _DATA[kind]
    return Plan(name, f"{settings.task or task}, {partition}", shown, "rule", cells)


def _votes(name: str, settings: TableSettings) -> Plan:
    """Criteria of the vote down, attacks across."""
    rows = settings.chosen("rules", VOTES)
    for row in rows:
        if row not in VOTES:
            raise unknown("row of the table of votes", row, VOTES)
    cells: list[Cell] = []
    for where in (_Setting("homogeneous", 0.4, settings), _Setting("heterogeneous", 0.2, settings)):
        if settings.rates is None or where.rate in _rates((), settings):
            cells += _block_of_votes(where, rows)
    return Plan(name, "Mean2P, by the criterion of its vote", "table", "vote", tuple(cells))


def _block_of_votes(where: _Setting, rows: Iterable[str]) -> Iterator[Cell]:
    for row in rows:
        for attack in where.settings.chosen("attacks", ALL_ATTACKS):
            changed = {"rule": "Mean2P", "vote_batch": 3, **VOTES[row]}
            yield where.cell(f"{where.kind}, rate {where.rate:g}", row, attack, **changed)


def _rates(default: Iterable[float], settings: TableSettings) -> list[float]:
    try:
        rates = [float(rate) for rate in settings.chosen("rates", map(str, default))]
    except ValueError:
        rates = [-1.0]
    if not all(0 <= rate < 0.5 for rate in rates):
        raise OstrakonError(f"RATES={settings.rates!r} cannot be used: give shares from 0 to below 0.5, as in 0.1;0.4")
    return rates


PLANS: Mapping[str, Callable[[str, TableSettings], Plan]] = MappingProxyType(
    {
        "table1": partial(_grid, "homogeneous", (0.4,), RULES, ATTACKS, "table"),
        "table2": partial(_grid, "homogeneous", (0.1, 0.2, 0.4), RULES, ATTACKS, "table"),
        "table3": partial(_grid, "heterogeneous", (0.1, 0.2, 0.4), (*RULES, *STRONG), TAILORED, "table"),
        "table4": partial(_grid, "cifar10", (0.2,), RULES, ATTACKS, "table"),
        "table5": partial(_grid, "homogeneous", (0.2,), ABLATION, ATTACKS, "table"),
        "figure2": partial(_grid, "heterogeneous", (0.2,), RULES, ATTACKS, "curves"),
        "figure3": partial(_grid, "homogeneous", (0.2,), RULES, ATTACKS, "curves with deviations"),
        "figure4": partial(_grid, "heterogeneous", (0.2,), RULES, ATTACKS, "curves with deviations"),
        "votes": _votes,
    }
)
