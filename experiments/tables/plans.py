"""The plans: the paper's tables 1 to 5 and figures 2 to 4, the table of votes, and that of departures.

Sources: the paper, section 5 and appendix D. Beside its rules, heterogeneous tables hold the strongest ones for such
data that are known (NNM: Allouah et al. 2023), alone and as a candidate of a vote. Figure 1 is not run: `figure1.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import unknown
from ostrakon.experiments.tables.comparisons import ATTACKS, TAILORED, departures, votes
from ostrakon.experiments.tables.conditions import DATA, Conditions, rates
from ostrakon.experiments.tables.paper import Setting
from ostrakon.experiments.tables.plan import Kind, Plan
from ostrakon.experiments.tables.settings import TableSettings

RULES = ("Avg", "GM", "CClip", "CWM", "CWTM", "Krum", "Cent2P", "Mean2P")
STRONG = ("Multi-Krum", "NNM+Krum", "NNM+CWTM", "TwoPhase(Mean1P, NNM+CWTM)")
ABLATION = ("Cent1P", "Mean1P", "Cent2P", "Mean2P")
FIGURE1 = "figure1"


def plan(name: str, chosen: TableSettings) -> Plan:
    """The plan that a user named.

    Raises:
        OstrakonError: there is no such plan, rule, attack or rate, or a setting cannot be used with the plan.
    """
    if name not in PLANS:
        raise unknown("table or figure", name, (*PLANS, FIGURE1))
    made = PLANS[name](name, chosen)
    if not made.cells:
        raise OstrakonError(f"{name} has no cell of such RULES, ATTACKS and RATES: name others, or leave them out")
    return made


def _grid(
    setting: Setting,
    of_rates: Iterable[float],
    rules: Iterable[str],
    attacks: Iterable[str],
    shown: Kind,
    name: str,
    chosen: TableSettings,
) -> Plan:
    """Rules down, attacks across, a block for each rate of liars."""
    cells = tuple(
        Conditions(setting, rate, chosen).cell(f"rate {rate:g}", rule, attack, known=rule, rule=rule)
        for rate in rates(of_rates, chosen)
        for rule in chosen.chosen("rules", rules)
        for attack in chosen.chosen("attacks", attacks)
    )
    task, partition = DATA[setting]
    return Plan(name, f"{chosen.task or task}, {partition}", shown, "rule", cells)


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
        "votes": votes,
        "departures": departures,
    }
)
