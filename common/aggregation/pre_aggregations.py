"""Every pre-aggregation under the name that users give, with all that is known of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ostrakon.common.aggregation import guarantees, mixing
from ostrakon.common.aggregation.guarantees import Guarantee
from ostrakon.common.aggregation.matrix import Matrix
from ostrakon.common.aggregation.mixing import Mixed
from ostrakon.common.aggregation.rule import Cost, check_positive


@dataclass(frozen=True)
class PreAggregation:
    """What makes a round's rows into other rows, before a rule is applied to them."""

    name: str
    function: Callable[[Matrix, int], Mixed]
    rows: Callable[[int], int]
    """How many rows it makes of n."""

    guarantee: Callable[[Guarantee], Guarantee] | None
    """What is proved after it, from what is proved of the rule; None where nothing is."""

    cost: Cost
    formula: str
    source: str

    reads_all: bool = False
    """As of a rule."""


def _nnm() -> PreAggregation:
    return PreAggregation(
        "NNM",
        mixing.nearest_neighbor_mixing,
        lambda n: n,
        guarantees.after_mixing,
        Cost("O(n^2 d)", "n vectors", lambda n, f: n),
        "each row becomes the mean of the n-f rows nearest to it",
        "Allouah et al. 2023",
        reads_all=True,
    )


def _bucketing(s: int = 2, seed: int = 0) -> PreAggregation:
    check_positive("Bucketing", s=s)
    return PreAggregation(
        "Bucketing",
        lambda x, f: mixing.bucketing(x, f, s, seed),
        lambda n: -(-n // s),
        None,
        Cost("O(n d)", "n/s vectors", lambda n, f: -(-n // s)),
        "means of shuffled buckets of s rows",
        "Karimireddy et al. 2022",
    )


def _clipping(tau: float = 2.0) -> PreAggregation:
    check_positive("Clipping", tau=tau)
    return PreAggregation(
        "Clipping",
        lambda x, f: mixing.clipping(x, f, tau),
        lambda n: n,
        None,
        Cost("O(n d)", "n vectors", lambda n, f: n),
        "each row is clipped to length tau",
        "common practice",
    )


def _arc() -> PreAggregation:
    return PreAggregation(
        "ARC",
        mixing.adaptive_robust_clipping,
        lambda n: n,
        guarantees.after_adaptive_clipping,
        Cost("O(n d)", "n vectors", lambda n, f: n),
        "the floor(2f(n-f)/n) longest rows are clipped to the length of the next",
        "Allouah et al. 2025",
    )


PRE_AGGREGATION_MAKERS: Mapping[str, Callable[..., PreAggregation]] = MappingProxyType(
    {"NNM": _nnm, "Bucketing": _bucketing, "Clipping": _clipping, "ARC": _arc}
)
"""Makes each pre-aggregation from its parameters."""
