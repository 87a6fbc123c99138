"""Every rule under the name that users give, with its check, its guarantee and its cost: one entry per rule."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from common import names
from common.aggregation.average import Aggregate, average
from common.aggregation.clustering import (
    center_cost,
    center_with_outliers,
    inner_and_outer,
    mean_cost,
    mean_with_outliers,
)
from common.errors import OstrakonError


@dataclass(frozen=True)
class Guarantee:
    """How far F(X) can be from the mean of ANY n-f of the n rows S, as constants of n and f."""

    resilience: Callable[[int, int], float]
    """lambda: |F(X) - mean_S| <= lambda * the largest distance within S (Definition 2)."""

    robustness: Callable[[int, int], float]
    """kappa: |F(X) - mean_S|^2 <= kappa * the mean over S of |x_i - mean_S|^2 (Definition 4)."""

    source: str
    """Where it is proved."""


@dataclass(frozen=True)
class Cost:
    """What a rule takes, for n rows of d numbers."""

    time: str
    memory: str
    """Beyond the rows and the result."""


@dataclass(frozen=True)
class Rule:
    """An aggregation rule: from a round's rows to one vector, or to Inner and Outer for the vote."""

    name: str
    two_phase: bool
    aggregate: Callable[[Tensor, int], tuple[Aggregate, ...]]
    """From (n, d) finite rows in roster order, which it does not write to, and f to one aggregate, or to Inner and
    Outer. n and f have passed `check`."""

    check: Callable[[int, int], None]
    """Takes n and f. Raises OstrakonError when the rule cannot be used with them."""

    guarantee: Guarantee | None
    """Of the first aggregate; None where nothing is proved."""

    cost: Cost


def check_minority(n: int, f: int) -> None:
    """Refuse anything but a minority of Byzantine workers.

    Raises:
        OstrakonError: n is not positive, or f is negative or not below n/2.
    """
    if n < 1:
        raise OstrakonError(f"n={n} workers: a rule needs at least 1")
    if f < 0:
        raise OstrakonError(f"f={f} of n={n} workers: f must not be negative")
    if 2 * f >= n:
        raise OstrakonError(f"f={f} of n={n} workers: f must be below n/2, so at most {(n - 1) // 2}")


_CENTER = Guarantee(
    resilience=lambda n, f: (2 * math.sqrt(2) + 1) * f / (n - f),
    robustness=lambda n, f: (8 * f**2 + 2 * f) * (n - f) / (n - 2 * f) ** 2,
    source="Theorem 2, CenterwO",
)
_MEAN = Guarantee(
    resilience=lambda n, f: math.sqrt(3 * f * (n - f)) / (n - 2 * f),
    robustness=lambda n, f: 6 * f * (n - f) / (n - 2 * f) ** 2,
    source="Theorem 2, MeanwO",
)
_CLUSTERING = Cost(time="O(n^2 d), the same for every input", memory="O(n^2) and one block of columns")

_ALL = (
    Rule(
        name="Avg",
        two_phase=False,
        aggregate=lambda x, f: (average(x),),
        check=check_minority,
        guarantee=None,
        cost=Cost(time="O(n d)", memory="one block of columns"),
    ),
    Rule(
        name="Cent1P",
        two_phase=False,
        aggregate=lambda x, f: (center_with_outliers(x, f),),
        check=check_minority,
        guarantee=_CENTER,
        cost=_CLUSTERING,
    ),
    Rule(
        name="Mean1P",
        two_phase=False,
        aggregate=lambda x, f: (mean_with_outliers(x, f),),
        check=check_minority,
        guarantee=_MEAN,
        cost=_CLUSTERING,
    ),
    Rule(
        name="Cent2P",
        two_phase=True,
        aggregate=lambda x, f: inner_and_outer(x, f, center_cost),
        check=check_minority,
        guarantee=_CENTER,
        cost=_CLUSTERING,
    ),
    Rule(
        name="Mean2P",
        two_phase=True,
        aggregate=lambda x, f: inner_and_outer(x, f, mean_cost),
        check=check_minority,
        guarantee=_MEAN,
        cost=_CLUSTERING,
    ),
)

RULES: Mapping[str, Rule] = MappingProxyType({entry.name: entry for entry in _ALL})
"""All rules by name, in the order in which they are listed to users."""


def rule(name: str) -> Rule:
    """The rule that a user named, such as "Mean2P".

    Raises:
        OstrakonError: no rule has this name, or parameters are given to a rule that takes none.
    """
    base, parameters = names.parse_call(name)
    if base not in RULES:
        raise names.unknown("rule", base, RULES)
    if parameters:
        raise OstrakonError(f"rule {base} takes no parameters, but {', '.join(parameters)} came: write {base}")
    return RULES[base]
