"""Kernels decide as the plain code on the CPU does: on a GPU where there is one, else in Triton's interpreter."""

import os

import numpy as np
import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read by Triton when it is imported
pytest.importorskip("triton", reason="Triton is not installed: it comes with torch for CUDA")

from ostrakon.common.aggregation import fused, fused_distances, rule
from ostrakon.common.aggregation.distances import Distances
from ostrakon.common.aggregation.matrix import ChosenRows
from ostrakon.common.aggregation.means import means
from tests.rules import definitions
from tests.rules.rows import make

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels read rows on the CPU too, where there is no GPU."""
    if DEVICE == "cpu":
        monkeypatch.setattr(fused, "usable", lambda x: x.dtype == torch.float32)
    else:
        assert fused.usable(torch.zeros(1, 1, device=DEVICE))


def there(x: Tensor) -> Tensor:
    return x.to(DEVICE)


def drawn(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n + d))


def hostile(n: int, d: int) -> Tensor:
    """A huge row beside near ones, equal ones, and tiny differences."""
    x = drawn(n, d)
    x[0] = 1e15
    x[1] = x[-1]
    x[2] = x[-1] * (1 + 2.0**-23)
    x[3] = 0
    x[4] = 1e-30 * x[5]
    return x


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("n", "d"), [(2, 1), (2, 2049), (3, 4097), (7, 64), (8, 130), (35, 2500), (70, 33), (130, 40)])
def test_distances_are_within_their_bounds(n: int, d: int) -> None:
    for x in (drawn(n, d), hostile(n, d) if n > 5 else 1e-6 * drawn(n, d) + 1):
        expected = definitions.distances(x.numpy())
        found = Distances(there(x))
        assert np.all((found.low.numpy() <= expected) & (expected <= found.high.numpy()))
        assert torch.equal(found.squared, found.squared.T) and not found.squared.diagonal().any()
        assert bool((found.high - found.low).le(1e-5 * found.squared + d * 2.0**-124).all())


@pytest.mark.usefixtures("kernels")
def test_settled_distances_are_exact_also_of_rows_that_were_chosen() -> None:
    x = hostile(40, 1500)
    chosen = [row for row in range(40) if row not in (2, 7)]
    expected = definitions.distances(x[chosen].numpy())
    np.testing.assert_allclose(
        Distances(ChosenRows(there(x), chosen), exact=True).squared.numpy(), expected, rtol=2e-12, atol=0
    )
    found = Distances(ChosenRows(there(x), chosen))
    rows, others = torch.tensor([3, 0, 37]), torch.tensor([*range(20), 37])
    assert found.settle(rows, others) and not found.settle(others, rows)
    np.testing.assert_allclose(
        found.squared[rows[:, None], others].numpy(), expected[np.ix_(rows, others)], rtol=2e-12, atol=0
    )
    np.testing.assert_array_less(found.low.numpy(), expected * (1 + 2e-12) + 1e-300)
    np.testing.assert_array_less(expected * (1 - 2e-12), found.high.numpy() + 1e-300)


@pytest.mark.usefixtures("kernels")
def test_distances_are_the_same_bits_in_any_order_of_the_rows() -> None:
    x = drawn(16, 700)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    one, other = Distances(there(x)).squared, Distances(there(x[order])).squared
    assert torch.equal(one[order][:, order], other)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("lanes", [1, 2, 8, 32, 64])
def test_the_bounds_hold_for_rows_made_for_the_order_of_summation(lanes: int) -> None:
    """Where each partial sum begins with a number beside which the others are rounded away, or up."""
    for rest in (0.99 * 2.0**-24, 1.01 * 2.0**-24):
        x = torch.full((2, 1 << 12), rest**0.5)
        x[0] = 0
        for start in range(0, 1 << 12, 32 * fused_distances.SINGLE.unroll * fused_distances.SINGLE.steps):
            x[1, start : start + lanes] = 1
        expected = float((x[1].double() ** 2).sum())
        found = Distances(there(x))
        assert found.low[0, 1] <= expected <= found.high[0, 1]


@pytest.mark.parametrize(("n", "d"), [(1, 1), (6, 513), (35, 1000), (35, 1003)])
def test_means_are_those_of_the_plain_code_bit_for_bit(n: int, d: int, request: pytest.FixtureRequest) -> None:
    x = 1e3 * drawn(n, d)
    x[n - 1] *= 3e35
    draw = np.random.default_rng(n)
    sets = [sorted(draw.choice(n, size=draw.integers(1, n + 1), replace=False).tolist()) for _ in range(11)]
    expected = [means(x, sets[:count]) for count in (1, 2, 11)]
    request.getfixturevalue("kernels")
    for count, vectors in zip((1, 2, 11), expected, strict=True):
        found = means(there(x), sets[:count])
        assert all(torch.equal(one.cpu(), other) for one, other in zip(found, vectors, strict=True))


@pytest.mark.usefixtures("kernels")
def test_a_row_outside_a_set_does_not_enter_its_mean() -> None:
    x = torch.tensor([[1.0], [np.inf], [3.0], [np.nan]])
    for number, one in enumerate(means(there(x), [[0, 2], [0, 1], [2], [0]])):
        assert one.item() == (2.0, np.inf, 3.0, 1.0)[number]


@pytest.mark.parametrize("name", ["CWM", "CWTM"])
@pytest.mark.parametrize(("n", "f"), [(1, 0), (2, 0), (7, 3), (10, 2), (35, 14)])
def test_ranks_are_those_of_the_plain_code_bit_for_bit(
    name: str, n: int, f: int, request: pytest.FixtureRequest
) -> None:
    x = drawn(n, 515)
    x[:, 3] = 1
    (expected,) = rule(name).aggregate(x, f)
    request.getfixturevalue("kernels")
    (found,) = rule(name).aggregate(there(x), f)
    assert torch.equal(found.vector.cpu(), expected.vector)


@pytest.mark.parametrize("name", ["Cent1P", "Mean1P", "Cent2P", "Mean2P", "Krum", "Multi-Krum", "MDA", "Bulyan"])
@pytest.mark.parametrize("kind", ["random", "far", "huge", "ties"])
def test_rules_choose_the_rows_that_they_choose_without_kernels(
    name: str, kind: str, request: pytest.FixtureRequest
) -> None:
    x = torch.from_numpy(make(kind, 15, 3, 300, seed=7))
    expected = rule(name).aggregate(x, 3)
    request.getfixturevalue("kernels")
    for here, found in zip(expected, rule(name).aggregate(there(x), 3), strict=True):
        assert found.cluster == here.cluster
        torch.testing.assert_close(found.vector.cpu(), here.vector, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["random", "huge"])
def test_mixed_rows_are_those_of_the_plain_code(kind: str, request: pytest.FixtureRequest) -> None:
    x = torch.from_numpy(make(kind, 12, 3, 300, seed=3))
    (expected,) = rule("NNM+CWTM").aggregate(x, 3)
    request.getfixturevalue("kernels")
    (found,) = rule("NNM+CWTM").aggregate(there(x), 3)
    torch.testing.assert_close(found.vector.cpu(), expected.vector, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Mean2P", "Krum", "CWTM", "CWM", "NNM+CWM", "TwoPhase(Mean1P, Avg)", "MDA", "Bulyan"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_left_out(name: str, bad: float, request: pytest.FixtureRequest) -> None:
    """Which the kernels find out, when they meet one, instead of a pass over the rows before."""
    x = drawn(15, 200)
    x[4, 150] = bad
    x[9, 0] = -bad
    expected = rule(name).aggregate(x, 3)
    request.getfixturevalue("kernels")
    for here, found in zip(expected, rule(name).aggregate(there(x), 3), strict=True):
        assert found.cluster == here.cluster
        torch.testing.assert_close(found.vector.cpu(), here.vector, rtol=1e-5, atol=1e-6)


def test_distances_and_means_of_many_rounds_are_those_of_each(kernels: None) -> None:
    for n, d, count in ((9, 300, 2), (5, 2100, 1), (10, 33, 3)):
        x = torch.stack([drawn(n, d), 1e3 * drawn(n, d) + 5e6, drawn(n, d)])
        x[:, 1] = x[:, 0]
        squared = fused_distances.squared_distances_of_rounds(there(x)).cpu()
        sets = torch.rand(3, count, n, generator=torch.Generator().manual_seed(d)) > 0.4
        sets[:, :, 0] = True
        averages = fused.means_of_rounds(there(x), there(sets)).cpu()
        for rows, between, of_rounds, its in zip(x, squared, averages, sets, strict=True):
            torch.testing.assert_close(between, Distances(rows, exact=True).squared, rtol=1e-11, atol=0)
            assert torch.equal(between[0], between[1])
            assert torch.equal(between, between.T)
            assert torch.equal(of_rounds, torch.stack(means(rows, [one.nonzero().flatten().tolist() for one in its])))
