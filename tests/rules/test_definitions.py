"""Every rule but those of `test_clustering` against its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostrakon.common.aggregation import rule
from ostrakon.common.aggregation.centers import streaming_mean
from ostrakon.common.aggregation.mixing import nearest_neighbor_mixing
from tests.rules import definitions
from tests.rules.rows import KINDS, WHOLE, Rows, make, rounds

EXACT = settings(max_examples=80, deadline=None)


def result_of(name: str, x: Rows, f: int) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    aggregate = rule(name).aggregate(torch.from_numpy(x), f)[0]
    assert aggregate.vector.numpy().dtype == x.dtype
    return aggregate.vector.double().numpy(), aggregate.cluster


def assert_close(value: NDArray[np.float64], expected: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
    """To 1e-5 of the expected value, and where the terms of a sum cancel to 1e-6 of the terms."""
    assert np.all(np.abs(value - expected) <= 1e-5 * np.abs(expected) + 1e-6 * scale)


def assert_mean(value: NDArray[np.float64], x: Rows, rows: tuple[int, ...]) -> None:
    chosen = x[list(rows)].astype(np.float64)
    assert_close(value, chosen.mean(axis=0), np.abs(chosen).max(axis=0))


@EXACT
@given(case=rounds())
def test_avg(case: tuple[Rows, int]) -> None:
    x, f = case
    value, cluster = result_of("Avg", x, f)
    assert_mean(value, x, tuple(range(len(x))))
    assert cluster == ()


@EXACT
@given(case=rounds())
def test_cwm(case: tuple[Rows, int]) -> None:
    x, f = case
    expected = definitions.median(x)
    assert_close(result_of("CWM", x, f)[0], expected, np.abs(expected))


@EXACT
@given(case=rounds())
def test_cwtm(case: tuple[Rows, int]) -> None:
    x, f = case
    kept = np.sort(x.astype(np.float64), axis=0)[f : len(x) - f]
    assert_close(result_of("CWTM", x, f)[0], definitions.trimmed_mean(x, f), np.abs(kept).max(axis=0))


@EXACT
@given(case=rounds(kinds=tuple(set(KINDS) - {"huge"})))  # which is below, where the scale is known
def test_meamed(case: tuple[Rows, int]) -> None:
    x, f = case
    expected = definitions.around_median(x, len(x) - f)
    assert_close(result_of("Meamed", x, f)[0], expected, np.abs(x.astype(np.float64)).max(axis=0))


@EXACT
@given(case=rounds(kinds=("huge",), least=3))
def test_meamed_with_huge_rows(case: tuple[Rows, int]) -> None:
    x, f = case
    assert_close(result_of("Meamed", x, f)[0], definitions.around_median(x, len(x) - f), np.full(x.shape[1], 15.0))


@pytest.mark.parametrize(("iterations", "eps"), [(1, 1e-5), (8, 1e-3)])
@EXACT
@given(case=rounds())
def test_gm(iterations: int, eps: float, case: tuple[Rows, int]) -> None:
    x, f = case
    value, _ = result_of(f"GM(iterations={iterations}, eps={eps})", x, f)
    expected = definitions.geometric_median(x, iterations, eps)
    # A weight is exact to the distance of x_i to z, whose float32 digits begin where z's do.
    assert_close(value, expected, np.full(x.shape[1], 10 * np.abs(x.astype(np.float64)).max()))


@EXACT
@given(n=st.integers(3, 60), seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e5, 1e10, 1e30, 3e38]))
def test_gm_weighs_huge_rows_by_their_direction(n: int, seed: int, size: float) -> None:
    x = make("random", n, 0, 7, seed)
    x[0] = np.float32(size)
    x[1] = np.float32(-size)
    x[2] = np.float32(size) * np.sign(x[2])
    value, _ = result_of("GM", x, 1)
    expected = definitions.geometric_median(x, 1, 1e-5)
    assert np.linalg.norm(value - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(("tau", "iterations"), [(2.15771, 1), (0.5, 4)])
@EXACT
@given(case=rounds())
def test_cclip(tau: float, iterations: int, case: tuple[Rows, int]) -> None:
    x, f = case
    value, _ = result_of(f"CClip(tau={tau}, iterations={iterations})", x, f)
    expected = definitions.centered_clipping(x, tau, iterations)
    assert_close(value, expected, np.full(x.shape[1], min(tau, np.abs(x.astype(np.float64)).max())))


@EXACT
@given(case=rounds(more=3))
def test_krum(case: tuple[Rows, int]) -> None:
    x, f = case
    value, (chosen,) = result_of("Krum", x, f)
    scores = definitions.krum_scores(x, f)
    assert scores[chosen] <= scores.min() * (1 + 1e-6)
    assert np.array_equal(value, x[chosen])


@EXACT
@given(case=rounds(more=3), data=st.data())
def test_multi_krum(case: tuple[Rows, int], data: st.DataObject) -> None:
    x, f = case
    m = data.draw(st.none() | st.integers(1, len(x) - f))
    value, chosen = result_of("Multi-Krum" if m is None else f"Multi-Krum(m={m})", x, f)
    scores = definitions.krum_scores(x, f)
    assert len(set(chosen)) == (m or len(x) - f)
    assert scores[list(chosen)].max() <= np.sort(scores)[len(chosen) - 1] * (1 + 1e-6)
    assert_mean(value, x, chosen)


@EXACT
@given(case=rounds(kinds=WHOLE, more=3))
def test_ties_between_scores_go_to_the_lowest_index(case: tuple[Rows, int]) -> None:
    x, f = np.round(case[0]), case[1]
    order = np.argsort(definitions.krum_scores(x, f), kind="stable")
    assert result_of("Krum", x, f)[1] == (order[0],)
    assert result_of("Multi-Krum", x, f)[1] == tuple(sorted(order[: len(x) - f]))


@pytest.mark.slow
@EXACT
@given(case=rounds(per_f=4, more=3, most=30, kinds=("random", "clustered", "ties")))
def test_bulyan(case: tuple[Rows, int]) -> None:
    x, f = case
    value, chosen = result_of("Bulyan", x, f)
    assert list(chosen) == definitions.bulyan_rows(x, f)
    rows = x[list(chosen)]
    assert_close(value, definitions.around_median(rows, len(x) - 4 * f), np.abs(rows.astype(np.float64)).max(axis=0))


@EXACT
@given(case=rounds(most=10))
def test_mda(case: tuple[Rows, int]) -> None:
    x, f = case
    value, subset = result_of("MDA", x, f)
    best = definitions.diameter(x, definitions.minimum_diameter_subset(x, f))
    assert len(set(subset)) == len(x) - f
    assert definitions.diameter(x, subset) <= best * (1 + 1e-6)
    assert_mean(value, x, subset)


@EXACT
@given(case=rounds(most=10, kinds=WHOLE))
def test_of_equally_small_subsets_mda_takes_the_first(case: tuple[Rows, int]) -> None:
    x, f = np.round(case[0]), case[1]
    assert result_of("MDA", x, f)[1] == definitions.minimum_diameter_subset(x, f)


def test_mda_of_the_papers_size_has_no_smaller_subset() -> None:
    """Of 2.3e9 subsets. That there is none is shown by a maximum clique search of another library."""
    networkx = pytest.importorskip("networkx")
    for seed, kind in enumerate(("random", "clustered", "far")):
        x = make(kind, 35, 14, 30, seed)
        _, subset = result_of("MDA", x, 14)
        squared = definitions.distances(x)
        diameter = definitions.diameter(x, subset)
        nearer = networkx.from_numpy_array((squared < diameter * (1 - 1e-9)) & ~np.eye(35, dtype=bool))
        assert max(len(clique) for clique in networkx.find_cliques(nearer)) < 21


@EXACT
@given(case=rounds(most=9))
def test_smea(case: tuple[Rows, int]) -> None:
    x, f = case
    value, subset = result_of("SMEA", x, f)
    sets = list(definitions.combinations(range(len(x)), len(x) - f))
    eigenvalues = [definitions.largest_eigenvalue(x, each) for each in sets]
    rounding = 1e-12 * float(np.abs(x[list(subset)].astype(np.float64)).max()) ** 2
    assert definitions.largest_eigenvalue(x, subset) <= min(eigenvalues) * (1 + 1e-6) + rounding
    assert_mean(value, x, subset)


@EXACT
@given(case=rounds(most=20, kinds=("random", "clustered", "tiny"), widths=(7, 40)))
def test_caf(case: tuple[Rows, int]) -> None:
    x, f = case
    value, _ = result_of("CAF", x, f)
    expected = definitions.covariance_bound_agnostic_filter(x, f)
    assert_close(value, expected, np.abs(x.astype(np.float64)).max(axis=0))


@EXACT
@given(case=rounds(kinds=("random", "clustered", "tiny"), least=2, widths=(2, 7, 40)))
def test_dnc_over_all_coordinates(case: tuple[Rows, int]) -> None:
    x, f = case
    value, chosen = result_of("DnC", x, f)
    assert list(chosen) == definitions.stands_out_least(x, f)
    assert_mean(value, x, chosen)


def test_dnc_puts_colluders_away_by_some_of_the_coordinates() -> None:
    x = make("random", 20, 0, 5000, seed=1)
    x[:6] += 0.5
    for iterations in (1, 3):
        _, chosen = result_of(f"DnC(coordinates=500, iterations={iterations}, seed=4)", x, 6)
        assert set(chosen) <= set(range(6, 20))
        assert len(chosen) >= 20 - 6 * iterations


@EXACT
@given(case=rounds(), data=st.data())
def test_monna(case: tuple[Rows, int], data: st.DataObject) -> None:
    x, f = case
    pivot = data.draw(st.integers(0, len(x) - 1))
    value, chosen = result_of(f"MoNNA({pivot})", x, f)
    squared = definitions.distances(x)[pivot]
    assert squared[list(chosen)].max() <= np.sort(squared)[len(x) - f - 1] * (1 + 1e-6)
    assert_mean(value, x, chosen)


@EXACT
@given(case=rounds(), data=st.data())
def test_a_cluster_around_the_median_or_a_row_of_the_stream_is_the_nearest_rows(
    case: tuple[Rows, int], data: st.DataObject
) -> None:
    x, f = case
    n = len(x)
    median = definitions.median(x).astype(x.dtype).astype(np.float64)
    first = definitions.distances(x[: 2 * f + 1])
    radii = np.sort(first, axis=1)[:, f]
    near_best = [x[row].astype(np.float64) for row in range(2 * f + 1) if radii[row] <= radii.min() * (1 + 1e-6)]
    for name, centers in (("Median1P", [median]), ("Stream1P", near_best)):
        value, chosen = result_of(name, x, f)
        assert len(set(chosen)) == n - f
        assert_mean(value, x, chosen)
        to_centers = [((x.astype(np.float64) - center) ** 2).sum(axis=1) for center in centers]
        assert any(squared[list(chosen)].max() <= np.sort(squared)[n - f - 1] * (1 + 1e-6) for squared in to_centers)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_cheap_centers_are_as_near_to_the_best_as_they_promise(n: int, seed: int, data: st.DataObject) -> None:
    """On a line, where the best ball and the best mean of n-f points are those of neighbours."""
    f = data.draw(st.integers(0, (n - 1) // 2))
    x = make(data.draw(st.sampled_from(["random", "clustered", "ties", "duplicates"])), n, f, 1, seed, np.float64)
    ordered = np.sort(x[:, 0])
    windows = [ordered[start : start + n - f] for start in range(f + 1)]
    ball = min(float(window[-1] - window[0]) / 2 for window in windows)
    spread = min(float(((window - window.mean()) ** 2).sum()) for window in windows)
    alpha = 2 * (n - f) / (n - 2 * f)
    for name, radius, sum_of_squares in (
        ("Cent1P", 2, 1e9),
        ("Mean1P", 1e9, 2),
        ("Median1P", 1 + alpha**0.5, 1 + alpha),
        ("Stream1P", 4, 1e9),
    ):
        _, chosen = result_of(name, x, f)
        rows = x[list(chosen), 0]
        centers = [float(definitions.median(x)[0])] if name == "Median1P" else list(x[:, 0])
        assert min(max(abs(rows - center)) for center in centers) <= radius * ball * (1 + 1e-9) + 1e-12
        assert (
            min(float(((rows - center) ** 2).sum()) for center in centers)
            <= sum_of_squares * spread * (1 + 1e-9) + 1e-12
        )


def test_a_stream_needs_to_be_read_once_only() -> None:
    x = torch.from_numpy(make("random", 20, 6, 9, seed=3))
    once = streaming_mean(iter(x), 6)
    (whole,) = rule("Stream1P").aggregate(x, 6)
    assert once.cluster == whole.cluster
    assert torch.equal(once.vector, whole.vector)


@EXACT
@given(case=rounds())
def test_nnm(case: tuple[Rows, int]) -> None:
    x, f = case
    size = len(x) - f
    squared = definitions.distances(x)
    mixed = nearest_neighbor_mixing(torch.from_numpy(x), f).x.double().numpy()
    for row, value in enumerate(mixed):
        near = definitions.nearest(squared, row, size)
        if size < len(x) and np.sort(squared[row])[size] <= squared[row][near[-1]] * (1 + 1e-6):
            continue  # who is in is a matter of the last digit
        assert_mean(value, x, tuple(near))


def test_nnm_keeps_the_digits_in_which_near_rows_differ() -> None:
    x = make("far", 30, 10, 500, seed=2)
    mixed = nearest_neighbor_mixing(torch.from_numpy(x), 10).x.double().numpy()
    expected = definitions.nearest_neighbor_mixing(x, 10)
    assert np.abs(mixed - expected).max() <= 0.51 * np.spacing(np.float32(1e4))  # as rounding the exact result does


@EXACT
@given(case=rounds(kinds=WHOLE))
def test_nnm_takes_equally_near_rows_from_the_lowest_index(case: tuple[Rows, int]) -> None:
    x, f = np.round(case[0]), case[1]
    mixed = nearest_neighbor_mixing(torch.from_numpy(x), f).x.double().numpy()
    assert np.allclose(mixed, definitions.nearest_neighbor_mixing(x, f), rtol=1e-5, atol=1e-6 * np.abs(x).max())


@EXACT
@given(case=rounds(kinds=("random", "clustered", "far"), least=2, widths=(40,)))
def test_nnm_then_a_trimmed_mean(case: tuple[Rows, int]) -> None:
    x, f = case
    expected = definitions.trimmed_mean(definitions.nearest_neighbor_mixing(x, f), f)
    assert_close(result_of("NNM+CWTM", x, f)[0], expected, np.abs(x.astype(np.float64)).max(axis=0))


@EXACT
@given(case=rounds(), tau=st.sampled_from([0.1, 2.0, 1e6]))
def test_clipping(case: tuple[Rows, int], tau: float) -> None:
    x, f = case
    clipped = definitions.clipped(x, tau)
    assert_close(result_of(f"Clipping({tau})+Avg", x, f)[0], clipped.mean(axis=0), np.abs(clipped).max(axis=0))


@EXACT
@given(case=rounds())
def test_arc(case: tuple[Rows, int]) -> None:
    x, f = case
    clipped = definitions.adaptively_clipped(x, f)
    assert_close(result_of("ARC+Avg", x, f)[0], clipped.mean(axis=0), np.abs(clipped).max(axis=0))


@EXACT
@given(case=rounds(per_f=4, more=2, kinds=("random", "clustered", "huge")), s=st.integers(1, 3))
def test_bucketing_averages_whole_buckets(case: tuple[Rows, int], s: int) -> None:
    x, f = case
    n = len(x)
    f = min(f, (-(-n // s) - 1) // 2)
    value, members = result_of(f"Bucketing({s})+Mean1P", x, f)
    buckets = -(-n // s) - f
    assert buckets * s - (s - 1) <= len(members) <= buckets * s
    if f == 0:
        assert members == tuple(range(n))
    if n % s == 0:
        assert_mean(value, x, members)


def test_buckets_are_drawn_anew_in_every_round_and_alike_for_the_same_rows() -> None:
    chosen = rule("Bucketing(2)+Krum")
    one = torch.from_numpy(make("random", 30, 0, 50, seed=1))
    assert chosen.aggregate(one, 3)[0].cluster == chosen.aggregate(one.clone(), 3)[0].cluster
    pairs = {rule(f"Bucketing(2, seed={seed})+MoNNA(0)").aggregate(one, 7)[0].cluster for seed in range(5)}
    assert len(pairs) > 1
    rounds_of_buckets = {
        rule("Bucketing(2)+MoNNA(0)").aggregate(torch.from_numpy(make("random", 30, 0, 50, seed)), 7)[0].cluster
        for seed in range(5)
    }
    assert len(rounds_of_buckets) > 1


@EXACT
@given(case=rounds(least=3))
def test_any_two_rules_can_be_proposed(case: tuple[Rows, int]) -> None:
    x, f = case
    rows = torch.from_numpy(x)
    inner, outer = rule("TwoPhase(Mean1P, NNM+CWTM)").aggregate(rows, f)
    assert torch.equal(inner.vector, rule("Mean1P").aggregate(rows, f)[0].vector)
    assert torch.equal(outer.vector, rule("NNM+CWTM").aggregate(rows, f)[0].vector)
