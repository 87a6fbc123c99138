"""Distances, and the decisions that are taken by them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ostrakon.common.aggregation import rule
from ostrakon.common.aggregation.clustering import center_cost, cheapest, mean_cost, nearest
from ostrakon.common.aggregation.distances import Distances, squared_distances_to
from ostrakon.common.aggregation.means import means
from tests.rules import definitions
from tests.rules.rows import MAXIMUM, Rows, make, rounds

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@settings(max_examples=100, deadline=None)
@given(case=rounds())
def test_exact_distances_are_exact_whatever_the_rows(case: tuple[Rows, int]) -> None:
    x, _ = case
    distances = Distances(torch.from_numpy(x), exact=True).squared.numpy()
    assert np.array_equal(distances, distances.T)
    np.testing.assert_allclose(distances, definitions.distances(x), rtol=2e-12, atol=0)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(case=rounds(), wide=st.booleans(), data=st.data())
def test_fast_distances_are_within_their_bounds_and_exact_once_settled(
    case: tuple[Rows, int], wide: bool, data: st.DataObject
) -> None:
    x = case[0].astype(np.float32)
    if wide:
        x = np.tile(x, (1, 1500))  # several blocks, whose rounding errors all have one direction
    expected = definitions.distances(x)
    distances = Distances(torch.from_numpy(x))
    assert np.all((distances.low.numpy() <= expected) & (expected <= distances.high.numpy()))
    finite = distances.squared.isfinite()
    assert bool((distances.high - distances.low)[finite].le(1e-5 * distances.squared[finite] + 1e-30).all())
    n = len(x)
    rows, others = (torch.tensor(data.draw(st.lists(st.integers(0, n - 1), min_size=1))) for _ in range(2))
    distances.settle(rows, others)
    settled = distances.squared[rows[:, None], others].numpy()
    np.testing.assert_allclose(settled, expected[np.ix_(rows, others)], rtol=2e-12, atol=0)
    assert torch.equal(distances.squared, distances.squared.T)
    assert torch.equal(distances.low[rows[:, None], others], distances.high[rows[:, None], others])
    assert not distances.settle(others, rows)


def test_distances_are_exact_across_column_blocks() -> None:
    x = 1e-3 * torch.randn(6, 60_001, generator=torch.Generator().manual_seed(1)) + 1e3
    x[3] = x[5]
    x[4] = MAXIMUM
    wide = x.double().numpy()
    expected = [[float(((p - q) ** 2).sum()) for q in wide] for p in wide]
    np.testing.assert_allclose(Distances(x, exact=True).squared.numpy(), expected, rtol=2e-12, atol=0)
    np.testing.assert_allclose(squared_distances_to(x, x[1]).numpy(), expected[1], rtol=2e-12, atol=0)


@pytest.mark.parametrize("gap", [1e-7, 1e-6, 1e-5, 1e-4])
def test_close_calls_are_decided_as_exact_distances_decide_them(gap: float) -> None:
    """Rows whose distances to a first row differ by less than float32 sums can tell apart."""
    draw = np.random.default_rng(0)
    for n in (9, 24):
        directions = draw.standard_normal((n, 4000))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        x = (directions * (1 + gap * draw.standard_normal((n, 1)))).astype(np.float32)
        x[0] = 0
        expected = definitions.distances(x)
        for size in range(1, n + 1):
            distances = Distances(torch.from_numpy(x))
            for row, near in enumerate(nearest(distances, range(n), size)):
                assert near == tuple(sorted(definitions.nearest(expected, row, size)))
            for criterion, cost in (("Cent", center_cost), ("Mean", mean_cost)):
                costs = np.array([definitions.cost(criterion, expected, row, size) for row in range(n)])
                for count in (1, n // 3):
                    chosen = cheapest(Distances(torch.from_numpy(x)), size, cost, count)
                    assert costs[chosen].max() <= np.sort(costs)[count - 1] * (1 + 1e-9)


def test_what_float32_cannot_hold_is_farther_than_what_it_can() -> None:
    """A distance that overflows in one block of columns, beside a larger one of which every block can be held."""
    x = torch.zeros(3, 8 * 768)
    x[1, 0] = 2.0**64  # squared, 2^128
    x[2] = 2.0**63 / 768**0.5  # squared, 2^126 a block
    assert nearest(Distances(x), range(1), 2) == [(0, 1)]
    x[1, 0] = -(2.0**65)
    assert nearest(Distances(x), range(1), 2) == [(0, 2)]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
def test_the_bounds_hold_for_rows_made_for_the_order_of_summation(device: str, lanes: int) -> None:
    """Where each partial sum begins with a number beside which the others are rounded away, or up."""
    for rest in (0.99 * 2.0**-24, 1.01 * 2.0**-24):
        x = torch.full((2, 1 << 14), rest**0.5)
        x[0] = 0
        for width in (384, 1 << 14):
            for start in range(0, 1 << 14, width):
                x[1, start : start + min(lanes, width)] = 1
            expected = float((x[1].double() ** 2).sum())
            distances = Distances(x.to(device))
            assert distances.low[0, 1] <= expected <= distances.high[0, 1]


@pytest.mark.slow
def test_costs_beyond_what_float32_can_hold_are_decided_all_the_same() -> None:
    x = torch.tensor([[3e38], [0.0], [1e20], [2e20], [3e20]])
    for name in ("Cent1P", "Mean1P", "Mean2P"):
        assert rule(name).aggregate(x, 1)[0].cluster == (1, 2, 3, 4)
    assert rule("Krum").aggregate(x, 1)[0].cluster == (2,)
    draw = np.random.default_rng(1)
    for _ in range(200):  # sums of squares on both sides of the border
        rows = (6e18 * draw.standard_normal((7, 1))).astype(np.float32)
        for name in ("Cent2P", "Mean2P", "Krum", "Multi-Krum", "MDA"):
            single = rule(name).aggregate(torch.from_numpy(rows), 1)
            double = rule(name).aggregate(torch.from_numpy(rows.astype(np.float64)), 1)
            assert [one.cluster for one in single] == [one.cluster for one in double]


def test_a_round_without_close_calls_settles_nothing() -> None:
    distances = Distances(torch.from_numpy(make("random", 20, 0, 5000, seed=1)))
    cheapest(distances, 12, mean_cost)
    assert bool((distances.low < distances.high).fill_diagonal_(True).all())


def test_a_row_outside_the_set_does_not_enter_its_mean() -> None:
    x = torch.tensor([[1.0], [np.inf], [3.0], [np.nan]])
    assert [mean.item() for mean in means(x, [[0, 2], [2]])] == [2, 3]
