"""CenterwO, MeanwO, Inner and Outer against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ostrakon.common.aggregation import rule
from tests.rules import definitions
from tests.rules.rows import WHOLE, Rows, make, rounds

CRITERIA = ("Cent", "Mean")


def least_cost(criterion: str, x: Rows, size: int) -> tuple[float, list[tuple[int, ...]]]:
    """The least cost of a cluster, and the clusters that attain it by the index of their centre."""
    squared = definitions.distances(x)
    costs = [definitions.cost(criterion, squared, center, size) for center in range(len(x))]
    least = min(costs)
    return least, [
        tuple(sorted(definitions.nearest(squared, center, size))) for center, cost in enumerate(costs) if cost == least
    ]


def cost_of(criterion: str, x: Rows, cluster: tuple[int, ...]) -> float:
    """What the cluster costs around the best of its own rows."""
    squared = definitions.distances(x[list(cluster)])
    return min(definitions.cost(criterion, squared, center, len(cluster)) for center in range(len(cluster)))


def assert_mean(vector: Tensor, x: Rows, rows: list[int]) -> None:
    chosen = x[rows].astype(np.float64)
    scale = np.abs(chosen).max(axis=0)
    assert np.all(np.abs(vector.double().numpy() - chosen.mean(axis=0)) <= 1e-6 * scale)


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=120, deadline=None)
@given(case=rounds())
def test_inner_is_the_mean_of_a_cluster_of_least_cost(criterion: str, case: tuple[Rows, int]) -> None:
    x, f = case
    n = len(x)
    least, _ = least_cost(criterion, x, n - f)
    for name in (f"{criterion}1P", f"{criterion}2P"):
        inner = rule(name).aggregate(torch.from_numpy(x), f)[0]
        assert len(set(inner.cluster)) == n - f
        assert list(inner.cluster) == sorted(inner.cluster)
        assert cost_of(criterion, x, inner.cluster) <= least * (1 + 1e-6)
        assert_mean(inner.vector, x, list(inner.cluster))


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=120, deadline=None)
@given(case=rounds())
def test_outer_is_the_mean_without_a_cluster_of_least_cost(criterion: str, case: tuple[Rows, int]) -> None:
    x, f = case
    n = len(x)
    _, outer = rule(f"{criterion}2P").aggregate(torch.from_numpy(x), f)
    assert len(set(outer.cluster)) == f
    assert list(outer.cluster) == sorted(outer.cluster)
    if f:
        least, _ = least_cost(criterion, x, f)
        assert cost_of(criterion, x, outer.cluster) <= least * (1 + 1e-6)
    assert_mean(outer.vector, x, [row for row in range(n) if row not in outer.cluster])


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=80, deadline=None)
@given(case=rounds(kinds=WHOLE))
def test_ties_go_to_the_lowest_index(criterion: str, case: tuple[Rows, int]) -> None:
    x, f = case
    x = np.round(x)
    inner, outer = rule(f"{criterion}2P").aggregate(torch.from_numpy(x), f)
    assert inner.cluster == least_cost(criterion, x, len(x) - f)[1][0]
    if f:
        assert outer.cluster == least_cost(criterion, x, f)[1][0]


def test_equal_costs_of_unlike_clusters_are_a_tie() -> None:
    first = torch.tensor([[0.0, 0, 0], [1, 1, 0], [-2, 0, 0]])  # 2 + 4 around its first row
    second = torch.tensor([[0.0, 0, 0], [1, 1, 1], [-1, -1, -1]]) + 90  # 3 + 3
    for groups in ((first, second), (second, first)):
        _, outer = rule("Mean2P").aggregate(torch.cat([*groups, torch.full((1, 3), 400.0)]), 3)
        assert outer.cluster == (0, 1, 2)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_duplicates_are_taken_from_the_lowest_index(criterion: str) -> None:
    x = torch.tensor([[9.0], [0.0], [0.0], [0.0], [9.0]])
    inner, outer = rule(f"{criterion}2P").aggregate(x, 2)
    assert inner.cluster == (1, 2, 3)
    assert outer.cluster == (0, 4)


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=60, deadline=None)
@given(case=rounds(), data=st.data())
def test_missing_rows_count_as_some_of_the_f(criterion: str, case: tuple[Rows, int], data: st.DataObject) -> None:
    x, f = case
    n = len(x)
    missing = data.draw(st.integers(0, f))
    arrived = x[missing:]
    inner, outer = rule(f"{criterion}2P").aggregate(torch.from_numpy(arrived), f - missing)
    for cluster, size in ((inner.cluster, n - f), (outer.cluster, f - missing)):
        assert len(cluster) == size
        assert not size or cost_of(criterion, arrived, cluster) <= least_cost(criterion, arrived, size)[0] * (1 + 1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_without_outliers_inner_and_outer_are_the_plain_mean(criterion: str, n: int) -> None:
    x = torch.from_numpy(make("random", n, 0, 5, seed=n))
    (plain,) = rule("Avg").aggregate(x, 0)
    inner, outer = rule(f"{criterion}2P").aggregate(x, 0)
    assert torch.equal(inner.vector, plain.vector)
    assert torch.equal(outer.vector, plain.vector)
    assert inner.cluster == tuple(range(n))
    assert outer.cluster == plain.cluster == ()
    assert_mean(plain.vector, x.numpy(), list(range(n)))


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=60, deadline=None)
@given(n=st.integers(3, 15), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_order_of_the_rows_does_not_matter_without_ties(
    criterion: str, n: int, seed: int, data: st.DataObject
) -> None:
    f = data.draw(st.integers(0, (n - 1) // 2).filter(lambda value: value != 1))  # one outlier is all ties for Outer
    x = make("random", n, f, 7, seed)
    # Two centres can be the farthest rows of each other's cluster: such a tie of CenterwO needs no equal distances.
    assume(all(len(set(least_cost(criterion, x, size)[1])) == 1 for size in (n - f, f) if size))
    order = data.draw(st.permutations(range(n)))
    before = rule(f"{criterion}2P").aggregate(torch.from_numpy(x), f)
    after = rule(f"{criterion}2P").aggregate(torch.from_numpy(x[list(order)]), f)
    for one, other in zip(before, after, strict=True):
        assert set(one.cluster) == {order[row] for row in other.cluster}
        torch.testing.assert_close(one.vector, other.vector, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("whole", [True, False])
def test_a_row_that_is_not_finite_is_in_no_cluster(criterion: str, bad: float, whole: bool) -> None:
    x = torch.from_numpy(make("random", 9, 4, 6, seed=2))
    rotten = (0, 3, 8)
    for row in rotten:
        x[row, 0 if whole else 2 :] = bad
    inner, outer = rule(f"{criterion}2P").aggregate(x, 4)
    assert len(inner.cluster) == 5
    assert len(outer.cluster) == 1
    assert not set(inner.cluster + outer.cluster) & set(rotten)
    assert torch.isfinite(inner.vector).all() and torch.isfinite(outer.vector).all()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("size", [1e5, 1e10, 1e30, 3e38])
@pytest.mark.parametrize("alike", [True, False])
def test_huge_rows_do_not_blur_the_honest_ones(criterion: str, size: float, alike: bool) -> None:
    draw = torch.Generator().manual_seed(3)
    x = 1e-3 * torch.randn(35, 300, generator=draw) + 1
    signs = torch.randn(14, 300, generator=draw).sign()
    x[:14] = size * (signs[0] if alike else signs)
    inner, outer = rule(f"{criterion}2P").aggregate(x, 14)
    assert inner.cluster == tuple(range(14, 35))
    assert_mean(inner.vector, x.numpy(), list(inner.cluster))
    assert (outer.cluster == tuple(range(14))) == alike
