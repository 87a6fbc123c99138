"""What is proved of the rules holds for random rows and for rows that a search made as bad as it could."""

import math
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

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


@cache
def sets_of(n: int, f: int) -> NDArray[np.intp]:
    """Every set of n-f rows, one a line."""
    return np.array(list(combinations(range(n), n - f)))


def worst(name: str, x: Rows, f: int) -> tuple[float, float]:
    """The least lambda and kappa that this input allows, over every set S of n-f rows, as shares of what is proved."""
    n = len(x)
    wide = x.astype(np.float64)
    result = rule(name).aggregate(torch.from_numpy(x), f)[0].vector.double().numpy()
    guarantee = rule(name).guarantee
    assert guarantee is not None
    squared = ((wide[:, None] - wide) ** 2).sum(axis=2)
    subsets = sets_of(n, f)
    rows = wide[subsets]
    means = rows.mean(axis=1)
    # A float32 result is only as near as its last digit.
    inexact = 1e-6 * np.abs(rows).max(axis=(1, 2)) * math.sqrt(x.shape[1])
    errors = np.linalg.norm(result - means, axis=1) - inexact
    diameters = np.sqrt(squared[subsets[:, :, None], subsets[:, None, :]].max(axis=(1, 2)))
    variances = ((rows - means[:, None]) ** 2).sum(axis=(1, 2)) / (n - f)
    bounds = (guarantee.resilience(n, f) * diameters, np.sqrt(guarantee.robustness(n, f) * variances))
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (float(np.where(errors > 0, errors / bound, 0.0).max()) for bound in bounds)
    return first, second


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


@pytest.mark.slow
@pytest.mark.parametrize("name", PROVED)
@pytest.mark.parametrize(
    ("n", "f", "d"),
    [
        (5, 2, 2),
        (9, 4, 2),
        *(pytest.param(*size, marks=pytest.mark.matrix) for size in [(5, 1, 1), (7, 2, 2), (9, 3, 1)]),
    ],
)
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
