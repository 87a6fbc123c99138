"""The aggregation rules against slow, straightforward float64 arithmetic, written apart from them."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from common.aggregation import RULES, rule
from common.aggregation.average import means
from common.aggregation.distances import squared_distances
from common.errors import OstrakonError

Rows = NDArray[np.float32]
MAXIMUM = float(np.finfo(np.float32).max)
CRITERIA = ("Cent", "Mean")
KINDS = ("random", "clustered", "far", "ties", "duplicates", "huge", "hierarchy")


def make(kind: str, n: int, f: int, d: int, seed: int) -> Rows:
    """One matrix of a round, of a kind that a rule could stumble over."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((n, d))
    if kind == "clustered":
        x = 1e-2 * x + draw.standard_normal((3, d))[draw.integers(0, 3, n)]
    elif kind == "far":
        x = 1e-3 * x + 1e4
    elif kind == "ties":
        x = draw.integers(-2, 3, (n, d)).astype(np.float64)
    elif kind == "duplicates":
        x = x[draw.integers(0, max(1, n // 2), n)] + 1e5
    elif kind == "huge":
        x = x + 10
        for row in draw.permutation(n)[:f]:
            x[row] = draw.choice([1e5, 1e10, 1e30, 3e38]) * draw.choice([-1, 1], d)
    elif kind == "hierarchy":  # groups within groups, each far from the origin by its own spread
        x = 1e-2 * x + 1e3 * draw.standard_normal((2, d))[draw.integers(0, 2, n)] + 1e6
    return x.astype(np.float32)


@st.composite
def rounds(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> tuple[Rows, int]:
    n = draw(st.integers(1, 15))
    f = draw(st.integers(0, (n - 1) // 2))
    d = draw(st.sampled_from([1, 2, 7, 40]))
    return make(draw(st.sampled_from(kinds)), n, f, d, draw(st.integers(0, 2**32 - 1))), f


def slow_distances(x: Rows) -> list[list[float]]:
    rows = [[float(value) for value in row] for row in x]
    return [[math.fsum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in rows] for p in rows]


def slow_cost(criterion: str, distances: list[float]) -> float:
    return max(distances) if criterion == "Cent" else math.fsum(distances)


def slow_clusters(criterion: str, x: Rows, size: int) -> tuple[float, list[tuple[int, ...]]]:
    """The least cost of a cluster, and the clusters that attain it by the index of their centre."""
    costs: list[float] = []
    clusters: list[tuple[int, ...]] = []
    for i, distances in enumerate(slow_distances(x)):
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: (distances[j], j))
        cluster = [i, *others[: size - 1]]
        costs.append(slow_cost(criterion, [distances[j] for j in cluster]))
        clusters.append(tuple(sorted(cluster)))
    least = min(costs)
    return least, [cluster for cluster, cost in zip(clusters, costs, strict=True) if cost == least]


def cost_of(criterion: str, x: Rows, cluster: tuple[int, ...]) -> float:
    """What the cluster costs around the best of its own rows."""
    table = slow_distances(x[list(cluster)])
    return min(slow_cost(criterion, distances) for distances in table)


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
    least, _ = slow_clusters(criterion, x, n - f)
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
        least, _ = slow_clusters(criterion, x, f)
        assert cost_of(criterion, x, outer.cluster) <= least * (1 + 1e-6)
    assert_mean(outer.vector, x, [row for row in range(n) if row not in outer.cluster])


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=80, deadline=None)
@given(case=rounds(kinds=("ties", "duplicates")))
def test_ties_go_to_the_lowest_index(criterion: str, case: tuple[Rows, int]) -> None:
    x, f = case
    x = np.round(x)  # whole numbers: the distances of both sides are exact
    inner, outer = rule(f"{criterion}2P").aggregate(torch.from_numpy(x), f)
    assert inner.cluster == slow_clusters(criterion, x, len(x) - f)[1][0]
    if f:
        assert outer.cluster == slow_clusters(criterion, x, f)[1][0]


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
    assert len(inner.cluster) == n - f
    assert len(outer.cluster) == f - missing


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


@settings(max_examples=60, deadline=None)
@given(case=rounds())
def test_distances_are_exact_whatever_the_rows(case: tuple[Rows, int]) -> None:
    x, _ = case
    distances = squared_distances(torch.from_numpy(x)).numpy()
    assert np.array_equal(distances, distances.T)
    np.testing.assert_allclose(distances, np.array(slow_distances(x)), rtol=1e-12, atol=0)


def test_distances_are_exact_across_column_blocks() -> None:
    x = 1e-3 * torch.randn(6, 60_001, generator=torch.Generator().manual_seed(1)) + 1e3
    x[3] = x[5]
    x[4] = MAXIMUM
    wide = x.double().numpy()
    expected = [[float(((p - q) ** 2).sum()) for q in wide] for p in wide]
    np.testing.assert_allclose(squared_distances(x).numpy(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["Cent1P", "Mean1P"])
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 7),
    d=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["random", "clustered", "far", "ties"]),
    data=st.data(),
)
def test_theorem_2_holds_for_every_honest_subset(
    name: str, n: int, d: int, seed: int, kind: str, data: st.DataObject
) -> None:
    f = data.draw(st.integers(0, (n - 1) // 2))
    x = make(kind, n, f, d, seed)
    wide = x.astype(np.float64)
    result = rule(name).aggregate(torch.from_numpy(x), f)[0].vector.double().numpy()
    guarantee = rule(name).guarantee
    assert guarantee is not None
    rounding = 1e-6 * np.abs(wide).max() * math.sqrt(d)
    for subset in combinations(range(n), n - f):
        honest = wide[list(subset)]
        mean = honest.mean(axis=0)
        error = float(np.linalg.norm(result - mean))
        diameter = max(float(np.linalg.norm(p - q)) for p in honest for q in honest)
        variance = float(((honest - mean) ** 2).sum()) / len(subset)
        assert error <= guarantee.resilience(n, f) * diameter + rounding
        assert error <= math.sqrt(guarantee.robustness(n, f) * variance) + rounding


def test_the_constants_of_theorem_2_are_those_of_the_paper() -> None:
    center, mean = rule("Cent1P").guarantee, rule("Mean1P").guarantee
    assert center is not None
    assert mean is not None
    assert center.resilience(35, 14) == pytest.approx(3.8284271 * 14 / 21)
    assert center.robustness(35, 14) == pytest.approx(684)
    assert mean.resilience(35, 14) == pytest.approx(math.sqrt(18))
    assert mean.robustness(35, 14) == pytest.approx(36)


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=60, deadline=None)
@given(n=st.integers(3, 15), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_order_of_the_rows_does_not_matter_without_ties(
    criterion: str, n: int, seed: int, data: st.DataObject
) -> None:
    f = data.draw(st.integers(0, (n - 1) // 2).filter(lambda value: value != 1))  # one outlier is all ties for Outer
    x = make("random", n, f, 7, seed)
    # Two centres can be the farthest rows of each other's cluster: such a tie of CenterwO needs no equal distances.
    assume(all(len(set(slow_clusters(criterion, x, size)[1])) == 1 for size in (n - f, f) if size))
    order = data.draw(st.permutations(range(n)))
    before = rule(f"{criterion}2P").aggregate(torch.from_numpy(x), f)
    after = rule(f"{criterion}2P").aggregate(torch.from_numpy(x[list(order)]), f)
    for one, other in zip(before, after, strict=True):
        assert set(one.cluster) == {order[row] for row in other.cluster}
        torch.testing.assert_close(one.vector, other.vector, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("whole", [True, False])
def test_a_row_that_is_not_finite_never_wins(criterion: str, bad: float, whole: bool) -> None:
    x = torch.from_numpy(make("random", 9, 4, 6, seed=2))
    rotten = (0, 3, 4, 8)
    for row in rotten:
        x[row, 0 if whole else 2 :] = bad
    inner, outer = rule(f"{criterion}2P").aggregate(x, 4)
    assert inner.cluster == (1, 2, 5, 6, 7)
    assert torch.isfinite(inner.vector).all()
    assert not set(outer.cluster) & set(rotten)


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


@pytest.mark.parametrize("name", list(RULES))
def test_the_mean_of_the_largest_numbers_does_not_overflow(name: str) -> None:
    for aggregate in rule(name).aggregate(torch.full((7, 3), MAXIMUM), 3):
        assert aggregate.vector.tolist() == [MAXIMUM] * 3


def test_a_row_outside_the_set_does_not_enter_its_mean() -> None:
    x = torch.tensor([[1.0], [math.inf], [3.0], [math.nan]])
    assert [mean.item() for mean in means(x, [[0, 2], [2]])] == [2, 3]


@pytest.mark.parametrize("name", list(RULES))
def test_rules_leave_their_input_alone_and_return_memory_of_their_own(name: str) -> None:
    x = torch.from_numpy(make("random", 7, 3, 20, seed=4))
    before = x.clone()
    aggregates = rule(name).aggregate(x, 3)
    for aggregate in aggregates:
        assert (aggregate.vector.shape, aggregate.vector.dtype) == ((20,), x.dtype)
        aggregate.vector.fill_(7)
    assert torch.equal(x, before)
    assert len({aggregate.vector.untyped_storage().data_ptr() for aggregate in aggregates}) == len(aggregates)


@pytest.mark.parametrize("name", list(RULES))
def test_the_bits_do_not_depend_on_the_number_of_threads(name: str) -> None:
    x = torch.randn(11, 150_001, generator=torch.Generator().manual_seed(5))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            distances = squared_distances(x)
            results.append((distances, rule(name).aggregate(x, 5)))
    finally:
        torch.set_num_threads(threads)
    for distances, aggregates in results[1:]:
        assert torch.equal(distances, results[0][0])
        for one, other in zip(aggregates, results[0][1], strict=True):
            assert torch.equal(one.vector, other.vector)
            assert one.cluster == other.cluster


class _Largest(TorchFunctionMode):
    """Remembers the most bytes that one tensor other than a view of x held."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self._own = x.untyped_storage().data_ptr()
        self.bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            with torch._C.DisableTorchFunction():
                if result.untyped_storage().data_ptr() != self._own:
                    self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("name", list(RULES))
def test_no_rule_copies_the_whole_matrix(name: str) -> None:
    x = torch.randn(9, 300_000, generator=torch.Generator().manual_seed(6))
    with _Largest(x) as largest:
        rule(name).aggregate(x, 4)
    assert 0 < largest.bytes <= 2**21


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(RULES))
def test_an_accelerator_chooses_the_same_rows(name: str) -> None:
    x = torch.randn(35, 300_000, generator=torch.Generator().manual_seed(7))
    for here, there in zip(rule(name).aggregate(x, 14), rule(name).aggregate(x.cuda(), 14), strict=True):
        assert there.vector.is_cuda
        assert there.cluster == here.cluster
        torch.testing.assert_close(there.vector.cpu(), here.vector, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", list(RULES))
def test_every_rule_gives_as_many_aggregates_as_it_has_phases(name: str) -> None:
    chosen = rule(name)
    assert chosen.name == name
    assert len(chosen.aggregate(torch.ones(3, 2), 1)) == (2 if chosen.two_phase else 1)


@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize(
    ("n", "f", "sentence"),
    [
        (10, 5, "f=5 of n=10 workers: f must be below n/2, so at most 4"),
        (10, -1, "f=-1 of n=10 workers: f must not be negative"),
        (0, 0, "n=0 workers: a rule needs at least 1"),
    ],
)
def test_a_rule_refuses_a_bound_that_it_cannot_meet(name: str, n: int, f: int, sentence: str) -> None:
    rule(name).check(10, 4)
    rule(name).check(1, 0)
    with pytest.raises(OstrakonError) as refusal:
        rule(name).check(n, f)
    assert str(refusal.value) == sentence


def test_an_unknown_rule_is_answered_with_the_known_ones() -> None:
    with pytest.raises(OstrakonError, match=r"unknown rule 'mean2p'; did you mean Mean2P\? \(known: Avg, Cent1P"):
        rule("mean2p")


def test_a_rule_without_parameters_refuses_them() -> None:
    with pytest.raises(OstrakonError, match="rule Mean2P takes no parameters, but size came: write Mean2P"):
        rule("Mean2P(size=3)")
