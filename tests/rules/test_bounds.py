"""What is proved of the rules holds for random rows and for rows that a search made as bad as it could."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ostrakon.common.aggregation import RULES, rule
from ostrakon.common.aggregation.guarantees import least_resilience, least_robustness
from tests.rules.rows import Rows, make

PROVED = [
    *(name for name, one in RULES.items() if one.guarantee),
    "NNM+CWM",
    "NNM+Krum",
    "NNM+CWTM",
    "ARC+CWTM",
    "ARC+Krum",
]
KINDS = ("random", "clustered", "far", "ties", "huge")


def sets_of(n: int, f: int) -> list[list[int]]:
    return [list(each) for each in combinations(range(n), n - f)]


def worst(name: str, x: Rows, f: int) -> tuple[float, float]:
    """The least lambda and kappa that this input allows, over every set S of n-f rows, as shares of what is proved."""
    n = len(x)
    wide = x.astype(np.float64)
    result = rule(name).aggregate(torch.from_numpy(x), f)[0].vector.double().numpy()
    guarantee = rule(name).guarantee
    assert guarantee is not None
    shares = [0.0, 0.0]
    squared = ((wide[:, None] - wide) ** 2).sum(axis=2)
    for subset in sets_of(n, f):
        rows = wide[subset]
        mean = rows.mean(axis=0)
        # A float32 result is only as near as its last digit.
        error = max(
            0.0, float(np.linalg.norm(result - mean)) - 1e-6 * float(np.abs(rows).max()) * math.sqrt(x.shape[1])
        )
        diameter = math.sqrt(float(squared[np.ix_(subset, subset)].max()))
        variance = float(((rows - mean) ** 2).sum()) / len(subset)
        for place, bound in enumerate(
            (guarantee.resilience(n, f) * diameter, math.sqrt(guarantee.robustness(n, f) * variance))
        ):
            if error > 0:
                shares[place] = max(shares[place], error / bound if bound else math.inf)
    return shares[0], shares[1]


@pytest.mark.parametrize("name", PROVED)
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    d=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    data=st.data(),
)
def test_bounds_hold_for_every_set_of_rows(
    name: str, n: int, d: int, seed: int, kind: str, data: st.DataObject
) -> None:
    least = 3 if "Krum" in name else 1
    n = max(n, least)
    f = data.draw(st.integers(0, (n - least) // 2))
    assert max(worst(name, make(kind, n, f, d, seed), f)) <= 1


@pytest.mark.parametrize("name", PROVED)
@pytest.mark.parametrize(("n", "f", "d"), [(5, 1, 1), (5, 2, 2), (7, 2, 2), (9, 3, 1), (9, 4, 2)])
def test_bounds_hold_for_what_hill_climbing_finds(name: str, n: int, f: int, d: int) -> None:
    """The search moves, stretches and swaps rows; whatever makes a share of a bound larger is kept."""
    if "Krum" in name and n < 2 * f + 3:
        f -= 1
    for place in range(2):
        draw = np.random.default_rng(n + 100 * place)
        x = draw.standard_normal((n, d))
        share = worst(name, x, f)[place]
        for step in range(150):
            tried = x.copy()
            row = draw.integers(n)
            move = draw.integers(3)
            if move == 0:
                tried[row] += draw.standard_normal(d) * 10.0 ** draw.uniform(-3, 1)
            elif move == 1:
                tried[row] *= draw.choice([-1.0, 0.0, 0.5, 2.0, 10.0])
            else:
                tried[row] = tried[draw.integers(n)]
            found = worst(name, tried, f)[place]
            if found >= share:
                x, share = tried, found
            assert share <= 1, (step, x)


def test_the_constants_of_theorem_2_are_those_of_the_paper() -> None:
    center, mean = rule("Cent1P").guarantee, rule("Mean1P").guarantee
    assert center is not None
    assert mean is not None
    assert center.resilience(35, 14) == pytest.approx(3.8284271 * 14 / 21)
    assert center.robustness(35, 14) == pytest.approx(684)
    assert mean.resilience(35, 14) == pytest.approx(math.sqrt(18))
    assert mean.robustness(35, 14) == pytest.approx(36)


@pytest.mark.parametrize("name", PROVED)
def test_no_constant_is_below_what_any_rule_can_reach(name: str) -> None:
    guarantee = rule(name).guarantee
    assert guarantee is not None
    for n in range(3, 61):
        for f in range((n - 3) // 2 + 1):
            assert guarantee.resilience(n, f) >= least_resilience(n, f) - 1e-12
            assert guarantee.robustness(n, f) >= least_robustness(n, f) - 1e-12
