"""What holds for every rule: safety of the input, bits, rows that are not finite, memory, phases, refusals."""

import doctest
import importlib
import math
import pkgutil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ostrakon.common.aggregation
from ostrakon.bench.peak import peak_bytes
from ostrakon.common.aggregation import BLOCK_BYTES, PRE_AGGREGATIONS, RULES, rule
from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.processes import start_fork_server
from tests.rules.rows import MAXIMUM, Rows, make, rounds

COMPOSED = (
    *("MoNNA(0)", "NNM+CWTM", "NNM+Mean2P", "Bucketing(2)+Mean1P", "ARC+GM", "Clipping(1.5)+Krum"),
    "TwoPhase(Mean1P, Avg)",
)
EVERY = (*RULES, *COMPOSED)
ORDER_MATTERS = {
    *("MoNNA(0)", "Stream1P", "DnC", "Bucketing(2)+Mean1P"),
    *("Cent1P", "Cent2P", "MDA", "Bulyan", "NNM+Mean2P"),  # where there are ties without equal rows
}
WEIGHTS_ARE_ROUNDED = {"GM", "CClip", "CAF", "NNM+CWTM", "ARC+GM", "Clipping(1.5)+Krum"}


def f_for(name: str, n: int) -> int:
    """The largest f for which a rule can be used with n rows."""
    for f in range((n - 1) // 2, -1, -1):
        try:
            rule(name).check(n, f)
        except OstrakonError:
            continue
        return f
    raise AssertionError(f"{name} cannot be used with {n} rows")


def assert_same(ones: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one.cluster == other.cluster
        assert torch.equal(one.vector, other.vector)


@pytest.mark.parametrize("module", [each.name for each in pkgutil.iter_modules(ostrakon.common.aggregation.__path__)])
def test_the_examples_of_the_docstrings_hold(module: str) -> None:
    if module not in ("__main__", "kernels"):  # the latter has none, and needs Triton
        tested = importlib.import_module(f"ostrakon.common.aggregation.{module}")
        assert doctest.testmod(tested, extraglobs={"torch": torch}).failed == 0


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_rules_leave_their_input_alone_and_return_memory_of_their_own(name: str, dtype: torch.dtype) -> None:
    x = torch.from_numpy(make("random", 11, 2, 20, seed=4)).to(dtype)
    before = x.clone()
    aggregates = rule(name).aggregate(x, f_for(name, 11))
    for aggregate in aggregates:
        assert (aggregate.vector.shape, aggregate.vector.dtype) == ((20,), dtype)
        assert torch.isfinite(aggregate.vector).all()
        aggregate.vector.fill_(7)
    assert torch.equal(x, before)
    assert len({aggregate.vector.untyped_storage().data_ptr() for aggregate in aggregates}) == len(aggregates)


@pytest.mark.parametrize("name", EVERY)
def test_a_view_and_a_tensor_with_a_gradient_are_taken_too(name: str) -> None:
    whole = torch.from_numpy(make("random", 40, 0, 11, seed=4))
    view = whole.T[:, ::2]
    f = f_for(name, 11)
    expected = rule(name).aggregate(view.contiguous(), f)
    assert_same(rule(name).aggregate(view, f), expected)
    assert_same(rule(name).aggregate(view.clone().requires_grad_(), f), expected)


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25, deadline=None)
@given(
    case=rounds(least=9, most=15, widths=(3, 40)), bad=st.sampled_from([math.nan, math.inf, -math.inf]), data=st.data()
)
def test_a_row_that_is_not_finite_is_a_row_that_did_not_come(
    name: str, case: tuple[Rows, int], bad: float, data: st.DataObject
) -> None:
    x = torch.from_numpy(case[0])
    n, f = len(x), min(case[1], f_for(name, len(x)))
    rotten = data.draw(st.sets(st.integers(0, n - 1), max_size=f))
    left = [row for row in range(n) if row not in rotten]
    expected = rule(name).aggregate(x[left], f - len(rotten), positions=left)
    for row in rotten:
        x[row, data.draw(st.integers(0, x.shape[1] - 1))] = bad
    for came, without in zip(rule(name).aggregate(x, f), expected, strict=True):
        assert torch.equal(came.vector, without.vector)
        assert came.cluster == tuple(left[row] for row in without.cluster)


@pytest.mark.parametrize("name", EVERY)
def test_more_such_rows_than_f_are_left_out_all_the_same(name: str) -> None:
    x = torch.from_numpy(make("random", 15, 0, 5, seed=1))
    x[5:] = math.nan
    for aggregate in rule(name).aggregate(x, 1):
        assert torch.isfinite(aggregate.vector).all()


def test_who_is_trusted_is_a_place_on_the_roster() -> None:
    x = torch.tensor([[0.0], [1.0], [9.0], [10.0], [11.0]])
    assert rule("MoNNA(3)").aggregate(x, 2)[0].cluster == (2, 3, 4)
    assert rule("MoNNA(3)").aggregate(x, 2, positions=(1, 3, 4, 7, 8))[0].cluster == (0, 1, 2)
    assert rule("NNM+MoNNA(3)").aggregate(x, 2, positions=(1, 3, 4, 7, 8))[0].cluster == (0, 1, 2)
    assert rule("TwoPhase(Avg, MoNNA(3))").aggregate(x, 2, positions=(1, 3, 4, 7, 8))[1].cluster == (0, 1, 2)
    for row, place in enumerate((1, 3, 4, 7, 8)):
        assert row in rule(f"Bucketing(2)+MoNNA({place})").aggregate(x, 1, positions=(1, 3, 4, 7, 8))[0].cluster
    (alone,) = rule("MoNNA(3)").aggregate(x, 2, positions=(0, 1, 2, 7, 8))
    assert alone == rule("Median1P").aggregate(x, 2)[0]


@pytest.mark.parametrize("name", EVERY)
def test_float64_numbers_whose_squares_cannot_be_held_are_rows_that_did_not_come(name: str) -> None:
    x = torch.from_numpy(make("random", 11, 0, 30, seed=1)).double()
    f = f_for(name, 11)
    rotten = [4] if f else []
    left = [row for row in range(11) if row not in rotten]
    expected = rule(name).aggregate(x[left], f - len(rotten), positions=left)
    for size in (1e141, -1e200, 1.7e308):
        for row in rotten:
            x[row, 7] = size
        for came, without in zip(rule(name).aggregate(x, f), expected, strict=True):
            assert torch.equal(came.vector, without.vector)


def test_a_round_without_finite_rows_is_an_error() -> None:
    x = torch.ones(5, 2)
    with pytest.raises(OstrakonError, match="none of the 5 rows given to rule Avg is finite"):
        rule("Avg").aggregate(x * math.nan, 2)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ORDER_MATTERS])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_order_of_the_rows_only_decides_ties(name: str, seed: int, data: st.DataObject) -> None:
    """Numbers of few digits, whose sums are exact: then not even a bit may differ where no weight is rounded."""
    n = 13
    f = max(f_for(name, n) - 1, 2 if f_for(name, n) >= 2 else 0)
    whole = np.random.default_rng(seed).integers(-(2**11), 2**11, (n, 40))
    x = torch.from_numpy((whole / 2**6).astype(np.float32))
    order = data.draw(st.permutations(range(n)))
    for one, other in zip(rule(name).aggregate(x, f), rule(name).aggregate(x[list(order)], f), strict=True):
        assert set(one.cluster) == {order[row] for row in other.cluster}
        if name not in WEIGHTS_ARE_ROUNDED:
            assert torch.equal(one.vector, other.vector)
        torch.testing.assert_close(one.vector, other.vector, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_the_bits_do_not_depend_on_the_number_of_threads(name: str) -> None:
    x = torch.randn(11, 100_003, generator=torch.Generator().manual_seed(5))
    f = f_for(name, 11)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(rule(name).aggregate(x, f))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert_same(result, results[0])


def test_differences_that_overflow_are_no_reason_for_a_mean_to() -> None:
    x = torch.tensor([[MAXIMUM], [-MAXIMUM], [MAXIMUM]])
    (mean,) = rule("NNM+Avg").aggregate(x, 0)
    assert mean.vector.tolist() == pytest.approx([MAXIMUM / 3])


def test_weights_that_do_not_fit_are_scaled() -> None:
    (vector,) = (one.vector for one in rule("GM(eps=1e-320)").aggregate(torch.full((3, 2), 5.0), 1))
    assert vector.tolist() == [5, 5]


@pytest.mark.parametrize("name", [name for name in EVERY if "Clip" not in name])
def test_the_mean_of_the_largest_numbers_does_not_overflow(name: str) -> None:
    for aggregate in rule(name).aggregate(torch.full((9, 3), MAXIMUM), f_for(name, 9)):
        assert aggregate.vector.tolist() == pytest.approx([MAXIMUM] * 3, rel=1e-6)


# With many rows it is those that compare all pairs, mix rows or try subsets that could hold too much.
OF_MANY_ROWS = ("Mean2P", "Krum", "Bulyan", "SMEA", "MDA", "CAF", "DnC(coordinates=1000000)", "NNM+Avg", "GM")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "d", "name"),
    [
        *((7, 3_000_000, name) for name in (*EVERY, "DnC(coordinates=1000000)")),
        *(
            pytest.param(200, 50_000, name, marks=() if name in OF_MANY_ROWS else pytest.mark.matrix)
            for name in (*EVERY, "DnC(coordinates=1000000)")
        ),
    ],
)
def test_no_rule_takes_more_memory_than_it_declares(name: str, n: int, d: int) -> None:
    start_fork_server()  # each call is measured in a process forked from one that has torch
    f = min(1 if name == "SMEA" else 2, f_for(name, n))  # SMEA: 200 subsets, one of them at a time, not 19,900
    allowed = 4 * d * rule(name).cost.vectors(n, f) + BLOCK_BYTES
    taken = peak_bytes(name, n, f, d, torch.device("cpu"), threads=1)
    assert taken is None or taken <= allowed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", ["random", "far", "huge", "ties"])
def test_an_accelerator_chooses_the_same_rows(name: str, kind: str) -> None:
    n = 35 if name != "SMEA" else 12
    x = torch.from_numpy(make(kind, n, 5, 60_000, seed=7))
    f = min(f_for(name, n), 14)
    for here, there in zip(rule(name).aggregate(x, f), rule(name).aggregate(x.cuda(), f), strict=True):
        assert there.vector.is_cuda
        assert there.cluster == here.cluster
        scale = float(here.vector.abs().max())
        torch.testing.assert_close(there.vector.cpu(), here.vector, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("name", EVERY)
def test_every_rule_gives_as_many_aggregates_as_it_has_phases(name: str) -> None:
    chosen = rule(name)
    f = f_for(name, 9)
    assert len(chosen.aggregate(torch.randn(9, 2), f)) == (2 if chosen.two_phase else 1)


@pytest.mark.parametrize("name", [*RULES, "MoNNA(0)", *(f"{before}+Avg" for before in PRE_AGGREGATIONS)])
@pytest.mark.parametrize(
    ("n", "f", "sentence"),
    [
        (10, 5, "f=5 of n=10 workers: f must be below n/2, so at most 4"),
        (10, -1, "f=-1 of n=10 workers: f must not be negative"),
        (0, 0, "n=0 workers: a rule needs at least 1"),
    ],
)
def test_a_rule_refuses_a_bound_that_it_cannot_meet(name: str, n: int, f: int, sentence: str) -> None:
    rule(name).check(11, 2)
    with pytest.raises(OstrakonError) as refusal:
        rule(name).check(n, f)
    assert str(refusal.value) == sentence
    if n:
        with pytest.raises(OstrakonError):
            rule(name).aggregate(torch.ones(n, 2), f)


@pytest.mark.parametrize(
    ("name", "n", "f", "sentence"),
    [
        ("Krum", 10, 4, "f=4 of n=10 workers: Krum needs n >= 2f + 3, so with n=10 f can be at most 3"),
        ("Krum", 2, 0, "f=0 of n=2 workers: Krum needs n >= 2f + 3, so with n=2 even f=0 needs n=3"),
        ("Multi-Krum", 10, 4, "f=4 of n=10 workers: Multi-Krum needs n >= 2f + 3, so with n=10 f can be at most 3"),
        ("Multi-Krum(m=8)", 10, 3, "Multi-Krum(m=8) of n=10 workers with f=3: m is from 1 to n - f = 7"),
        ("Bulyan", 35, 14, "f=14 of n=35 workers: Bulyan needs n >= 4f + 3, so with n=35 f can be at most 8"),
        (
            "SMEA",
            35,
            14,
            "f=14 of n=35 workers: SMEA looks at every subset of n - f rows, about 10^9 of them, where 100,000 are "
            "feasible: with n=35 f can be at most 4, or take MDA or CAF",
        ),
        (
            "DnC(iterations=3)",
            35,
            14,
            "DnC(iterations=3) of n=35 workers with f=14: each iteration may put away f others, "
            "so at most 2 iterations",
        ),
        (
            "Bucketing(2)+Mean1P",
            35,
            14,
            "Bucketing(s=2) makes 18 vectors of those of n=35 workers, of which the f=14 can spoil one each, and then: "
            "f=14 of n=18 workers: f must be below n/2, so at most 8. Give a smaller f, or leave Bucketing(s=2) out",
        ),
        ("MDA", 150, 60, "f=60 of n=150 workers: MDA searches for f rows exactly, which is feasible up to f=50"),
        ("TwoPhase(Mean1P, Krum)", 4, 1, "f=1 of n=4 workers: Krum needs n >= 2f + 3, so with n=4 f can be at most 0"),
    ],
)
def test_a_rule_that_does_not_apply_says_what_would(name: str, n: int, f: int, sentence: str) -> None:
    with pytest.raises(OstrakonError) as refusal:
        rule(name).check(n, f)
    assert str(refusal.value) == sentence


def test_rules_are_checked_for_every_round_that_a_run_can_have() -> None:
    rule("Krum").check_run(11, 4, asynchronous=False)
    with pytest.raises(OstrakonError) as refusal:
        rule("Krum").check_run(11, 4, asynchronous=True)
    assert str(refusal.value) == (
        "a round may have the rows of 9 of the 11 workers only: f=4 of n=9 workers: Krum needs n >= 2f + 3, "
        "so with n=9 f can be at most 3. Give a smaller f, or quorum = synchronous, which lowers f with each missing "
        "row"
    )


def test_who_is_trusted_must_be_on_the_roster() -> None:
    rule("NNM+MoNNA(10)").check_run(11, 4, asynchronous=False)
    for name in ("MoNNA(11)", "NNM+MoNNA(11)", "TwoPhase(Avg, MoNNA(11))", "TwoPhase(MoNNA(11), Avg)"):
        with pytest.raises(OstrakonError, match=r"trusts place 11 of n=11 workers: places are 0 to 10"):
            rule(name).check(11, 4)
        with pytest.raises(OstrakonError, match=r"trusts place 11 of n=11 workers"):
            rule(name).aggregate(torch.ones(11, 2), 4)


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(3),
        torch.ones(3, 2, 2),
        torch.ones(3, 2, dtype=torch.int64),
        torch.ones(3, 2).to(torch.float8_e5m2),
        torch.ones(3, 2).to_sparse(),
        torch.ones(3, 0),
    ],
)
def test_what_is_no_matrix_is_refused(x: Tensor) -> None:
    with pytest.raises(
        OstrakonError, match=r"rule Avg takes a dense \(n, d\) tensor of float64, .*, not one of shape "
    ):
        rule("Avg").aggregate(x, 1)


def test_what_is_no_tensor_or_no_number_is_refused() -> None:
    with pytest.raises(OstrakonError, match=r"rule Avg takes an \(n, d\) torch.Tensor, not a ndarray"):
        rule("Avg").aggregate(np.ones((3, 2)), 1)
    with pytest.raises(OstrakonError, match="takes tensors on the CPU or a CUDA GPU, not on meta"):
        rule("Avg").aggregate(torch.ones(3, 2, device="meta"), 1)
    with pytest.raises(OstrakonError, match=r"f=1.5 of n=10 workers: both are whole numbers"):
        rule("Avg").check(10, 1.5)


def test_every_row_has_one_position() -> None:
    with pytest.raises(OstrakonError, match="2 positions came with 3 rows"):
        rule("Avg").aggregate(torch.ones(3, 2), 1, positions=[0, 1])


def test_refusals_are_quick_however_many_workers_there_are() -> None:
    for n, f in ((1100, 540), (100_000, 49_000)):
        with pytest.raises(OstrakonError, match=r"SMEA looks at every subset of n - f rows, about 10\^\d+ of them"):
            rule("SMEA").check(n, f)


@pytest.mark.parametrize(
    "name", ["GM", "CClip", "Clipping(0.5)+Avg", "ARC+Avg", "MoNNA(0)", "Median1P", "Stream1P", "CAF"]
)
def test_the_bits_do_not_depend_on_the_layout_of_memory(name: str) -> None:
    x = torch.from_numpy(make("random", 9, 0, 3001, seed=8, dtype=np.float64))
    assert_same(rule(name).aggregate(x.T.contiguous().T, 2), rule(name).aggregate(x, 2))


def test_rows_equally_far_from_a_trusted_one_are_taken_from_the_lowest() -> None:
    draw = torch.Generator().manual_seed(1)
    for _ in range(50):
        row = torch.randn(50, generator=draw)
        x = torch.stack([torch.zeros(50), row, row[torch.randperm(50, generator=draw)]])
        assert rule("MoNNA(0)").aggregate(x, 1)[0].cluster == (0, 1)
