"""Every rule under the name that users give, with all that is known of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from ostrakon.common.aggregation import (
    centers,
    clustering,
    coordinatewise,
    geometric,
    guarantees,
    krum,
    side_by_side,
    spectral,
    subsets,
)
from ostrakon.common.aggregation.clustering import center_cost, inner_and_outer, mean_cost
from ostrakon.common.aggregation.guarantees import Guarantee
from ostrakon.common.aggregation.matrix import PlacedRows
from ostrakon.common.aggregation.means import Aggregate, average
from ostrakon.common.aggregation.rule import (
    Check,
    Cost,
    Rule,
    check_cover,
    check_minority,
    check_positive,
    check_subsets,
    needs_rows,
)
from ostrakon.common.aggregation.side_by_side import Decide
from ostrakon.common.errors import OstrakonError

_ROWS = Cost("O(n d)", "blocks")
_PAIRS = Cost("O(n^2 d)", "n^2, blocks")
_NETWORK = Cost("O(n (log n)^2 d)", "blocks")


def _one(
    name: str,
    function: Callable[[PlacedRows, int], Aggregate],
    formula: str,
    source: str,
    cost: Cost,
    guarantee: Guarantee | None = None,
    check: Check = check_minority,
    decide: Decide | None = None,
    *,
    reads_all: bool = False,
) -> Rule:
    return Rule(
        name,
        False,
        lambda x, f: (function(x, f),),
        check,
        guarantee,
        cost,
        formula,
        source,
        reads_all=reads_all,
        side_by_side=decide,
    )


def _gm(iterations: int = 1, eps: float = 1e-5) -> Rule:
    check_positive("GM", iterations=iterations, eps=eps)
    return _one(
        "GM",
        lambda x, f: geometric.geometric_median(x, f, iterations, eps),
        "steps toward the point with the least sum of distances (smoothed Weiszfeld)",
        "Pillutla et al. 2022",
        Cost("O(n d) an iteration", "1 vector", lambda n, f: 1),
        decide=lambda x, f: side_by_side.geometric_median(x, iterations, eps),
    )


def _cclip(tau: float = 2.15771, iterations: int = 1) -> Rule:
    check_positive("CClip", tau=tau, iterations=iterations)
    return _one(
        "CClip",
        lambda x, f: geometric.centered_clipping(x, f, tau, iterations),
        "mean of the rows, each clipped to length tau",
        "Karimireddy et al. 2021",
        Cost("O(n d) an iteration", "2 vectors", lambda n, f: 2),
        decide=lambda x, f: side_by_side.centered_clipping(x, tau, iterations),
    )


def _multi_krum(m: int | None = None) -> Rule:
    def check(n: int, f: int) -> None:
        needs_rows("Multi-Krum", 2, 3)(n, f)
        if m is not None and not 1 <= m <= n - f:
            raise OstrakonError(f"Multi-Krum(m={m}) of n={n} workers with f={f}: m is from 1 to n - f = {n - f}")

    return _one(
        "Multi-Krum",
        lambda x, f: krum.multi_krum(x, f, x.shape[0] - f if m is None else m),
        "mean of the m rows with the lowest scores; m = n - f if not given",
        "Blanchard et al. 2017",
        _PAIRS,
        guarantees.KRUM,
        check,
        decide=lambda x, f: side_by_side.krum(x, f, x.shape[1] - f if m is None else m),
        reads_all=True,
    )


def _monna(pivot: int) -> Rule:
    if pivot < 0:
        raise OstrakonError(f"MoNNA(pivot={pivot}): places on the roster are numbered from 0")

    def function(x: PlacedRows, f: int) -> Aggregate:
        trusted = next((row for row, places in enumerate(x.places) if pivot in places), None)
        return centers.around_median(x, f) if trusted is None else centers.around_row(x, f, trusted)

    made = _one(
        "MoNNA",
        function,
        "mean of the n-f rows nearest to that of place `pivot`, which is trusted; without it as Median1P",
        "Farhadkhani et al. 2023",
        Cost("O(n d)", "1 vector", lambda n, f: 1),
    )
    return replace(made, trusts=(pivot,))


def _dnc(coordinates: int = 10_000, iterations: int = 1, seed: int = 0) -> Rule:
    check_positive("DnC", coordinates=coordinates, iterations=iterations)

    def check(n: int, f: int) -> None:
        check_minority(n, f)
        if iterations * f >= n:
            raise OstrakonError(
                f"DnC(iterations={iterations}) of n={n} workers with f={f}: each iteration may put away f others, "
                f"so at most {(n - 1) // f} iterations"
            )

    return _one(
        "DnC",
        lambda x, f: spectral.divide_and_conquer(x, f, coordinates, iterations, seed),
        "mean of the rows that stand out least in the direction of most spread",
        "Shejwalkar and Houmansadr 2021",
        Cost("O(n d + n^2 coordinates)", "2 vectors", lambda n, f: 2),
        check=check,
    )


def _two_phase(inner: Rule, outer: Rule) -> Rule:
    """Propose the results of any two one-phase rules: the vote does not care how candidates came about."""
    name = f"TwoPhase({inner.name}, {outer.name})"
    for one in (inner, outer):
        if one.two_phase:
            raise OstrakonError(f"{name}: {one.name} proposes two candidates itself; there are never more than two")

    def check(n: int, f: int) -> None:
        inner.applies(n, f)
        outer.applies(n, f)

    return Rule(
        name,
        True,
        lambda x, f: inner.function(x, f) + outer.function(x, f),
        check,
        inner.guarantee,
        Cost(
            f"{inner.cost.time}; {outer.cost.time}",
            f"{inner.cost.memory}; {outer.cost.memory}",
            lambda n, f: max(inner.cost.vectors(n, f), outer.cost.vectors(n, f)),
        ),
        "the first rule's result as Inner, the second's as Outer",
        "this project",
        inner.trusts + outer.trusts,
        reads_all=inner.reads_all,
    )


def _always(rule: Rule) -> Callable[[], Rule]:
    return lambda: rule


RULE_MAKERS: Mapping[str, Callable[..., Rule]] = MappingProxyType(
    {
        "Avg": _always(
            _one("Avg", average, "mean of all rows", "-", _ROWS, decide=lambda x, f: side_by_side.everybody(x))
        ),
        "GM": _gm,
        "CClip": _cclip,
        "CWM": _always(
            _one(
                "CWM",
                coordinatewise.coordinatewise_median,
                "median of every coordinate",
                "Yin et al. 2018",
                _NETWORK,
                guarantees.MEDIAN,
                decide=lambda x, f: side_by_side.coordinatewise(x, (x.shape[1] - 1) // 2),
                reads_all=True,
            )
        ),
        "CWTM": _always(
            _one(
                "CWTM",
                coordinatewise.coordinatewise_trimmed_mean,
                "mean of every coordinate without its f smallest and f largest values",
                "Yin et al. 2018",
                _NETWORK,
                guarantees.TRIMMED_MEAN,
                decide=side_by_side.coordinatewise,
                reads_all=True,
            )
        ),
        "Krum": _always(
            _one(
                "Krum",
                krum.krum,
                "the row with the least sum of squared distances to its n-f-2 nearest others",
                "Blanchard et al. 2017",
                _PAIRS,
                guarantees.KRUM,
                needs_rows("Krum", 2, 3),
                decide=lambda x, f: side_by_side.krum(x, f, 1),
                reads_all=True,
            )
        ),
        "Multi-Krum": _multi_krum,
        "MDA": _always(
            _one(
                "MDA",
                subsets.minimum_diameter_averaging,
                "mean of the n-f rows with the least diameter",
                "El Mhamdi et al. 2018",
                Cost("O(n^2 d + 1.47^f n^2)", _PAIRS.memory),
                guarantees.MINIMUM_DIAMETER,
                check_cover,
                reads_all=True,
            )
        ),
        "SMEA": _always(
            _one(
                "SMEA",
                subsets.smallest_maximum_eigenvalue_averaging,
                "mean of the n-f rows with the least largest eigenvalue of their covariance",
                "Allouah et al. 2023",
                Cost("O(n^2 d + C(n, f) n^3)", _PAIRS.memory),
                guarantees.SMALLEST_EIGENVALUE,
                check_subsets,
                reads_all=True,
            )
        ),
        "Cent1P": _always(
            _one(
                "Cent1P",
                clustering.center_with_outliers,
                "mean of the n-f rows in the smallest ball around a row (CenterwO)",
                "the paper",
                _PAIRS,
                guarantees.CENTER,
                decide=lambda x, f: side_by_side.inner(x, f, center_cost),
                reads_all=True,
            )
        ),
        "Mean1P": _always(
            _one(
                "Mean1P",
                clustering.mean_with_outliers,
                "mean of the n-f rows with the least sum of squared distances to a row (MeanwO)",
                "the paper",
                _PAIRS,
                guarantees.MEAN,
                decide=lambda x, f: side_by_side.inner(x, f, mean_cost),
                reads_all=True,
            )
        ),
        "Cent2P": _always(
            Rule(
                "Cent2P",
                True,
                lambda x, f: inner_and_outer(x, f, center_cost),
                check_minority,
                guarantees.CENTER,
                _PAIRS,
                "Inner: as Cent1P; Outer: mean without the f rows in the smallest ball around a row",
                "the paper",
                side_by_side=lambda x, f: side_by_side.inner_and_outer(x, f, center_cost),
                reads_all=True,
            )
        ),
        "Mean2P": _always(
            Rule(
                "Mean2P",
                True,
                lambda x, f: inner_and_outer(x, f, mean_cost),
                check_minority,
                guarantees.MEAN,
                _PAIRS,
                "Inner: as Mean1P; Outer: mean without the f rows with the least sum of squared distances to a row",
                "the paper",
                side_by_side=lambda x, f: side_by_side.inner_and_outer(x, f, mean_cost),
                reads_all=True,
            )
        ),
        "Bulyan": _always(
            _one(
                "Bulyan",
                krum.bulyan,
                "Krum chooses n-2f rows; mean of the n-4f values of every coordinate nearest to their median",
                "El Mhamdi et al. 2018",
                _PAIRS,
                check=needs_rows("Bulyan", 4, 3),
                reads_all=True,
            )
        ),
        "Meamed": _always(
            _one(
                "Meamed",
                coordinatewise.mean_around_median,
                "mean of the n-f values of every coordinate nearest to its median",
                "Xie et al. 2018",
                _NETWORK,
                guarantees.NEAR_MEDIAN,
            )
        ),
        "MoNNA": _monna,
        "CAF": _always(
            _one(
                "CAF",
                spectral.covariance_bound_agnostic_filter,
                "weighted mean, after weights were taken off rows that stand out in the direction of most spread",
                "Allouah et al. 2025",
                Cost("O(n^2 d + n^4)", _PAIRS.memory),
            )
        ),
        "DnC": _dnc,
        "Median1P": _always(
            _one(
                "Median1P",
                centers.around_median,
                "mean of the n-f rows nearest to the coordinate-wise median",
                "Narayanan 2018",
                Cost("O(n d); O(n (log n)^2 d) for n <= 256", "1 vector", lambda n, f: 1),
                guarantees.AROUND_MEDIAN,
            )
        ),
        "Stream1P": _always(
            _one(
                "Stream1P",
                lambda x, f: centers.streaming_mean((x[row] for row in range(x.shape[0])), f),
                "mean of the n-f rows nearest to the tightest of the first 2f+1, in one pass",
                "McCutchen and Khuller 2008",
                Cost("O(n d + f^2 d)", "2f + 3 vectors", lambda n, f: 2 * f + 3),
                guarantees.STREAM,
            )
        ),
        "TwoPhase": _two_phase,
    }
)
"""Makes each rule from its parameters, in the order in which they are listed to users."""

EXAMPLES = ("MoNNA(9)", "TwoPhase(Mean1P, Avg)")
"""Rules that must be given parameters."""
