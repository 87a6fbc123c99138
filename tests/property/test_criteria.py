"""Criteria of the vote: what holds for any losses and vectors, and the cases in which one looks twice."""

import doctest
from dataclasses import replace
from math import inf, nan
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ostrakon.common import criteria
from ostrakon.common.algorithm import Step, preference
from ostrakon.common.criteria import CRITERIA, Evidence, gain, nearness
from ostrakon.worker.settings import Vote

LOSSES = st.floats(-8, 8, width=32) | st.sampled_from([nan, inf, -inf])
MARGINS = st.floats(-8, 8) | st.sampled_from([0.0, nan, inf, -inf])


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    """Of as many votes as one draws, each on as many examples."""
    votes, m = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    inner, outer = (
        torch.tensor(draw(st.lists(st.lists(LOSSES, min_size=m, max_size=m), min_size=votes, max_size=votes)))
        for _ in range(2)
    )
    margins = [torch.tensor(draw(st.lists(MARGINS, min_size=votes, max_size=votes))).double() for _ in range(2)]
    return Evidence(inner, outer, *margins)


def prefers_outer(name: str, evidence: Evidence) -> Tensor:
    return CRITERIA[name].prefers_outer(evidence)


def choice(name: str, inner: Any, outer: Any, **known: float) -> str:
    found = prefers_outer(name, Evidence(torch.tensor(inner), torch.tensor(outer), **known))
    return "outer" if found else "inner"


examples = settings(max_examples=50, deadline=None)
every_criterion = pytest.mark.parametrize("name", CRITERIA)


def test_the_settings_offer_every_criterion() -> None:
    assert list(get_args(Vote)) == list(CRITERIA)


@every_criterion
@examples
@given(evidence())
def test_swapped_candidates_swap_the_choice_and_a_tie_is_inners(name: str, evidence: Evidence) -> None:
    swapped = Evidence(evidence.outer_losses, evidence.inner_losses, -evidence.gain, -evidence.nearness)
    first, second = prefers_outer(name, evidence), prefers_outer(name, swapped)
    assert not (first & second).any()
    for vote in torch.nonzero(~first & ~second).flatten().tolist():
        inner, outer = evidence.inner_mean[vote], evidence.outer_mean[vote]
        margin = {"second momentum": evidence.gain, "own momentum": evidence.nearness, None: None}[CRITERIA[name].asks]
        tied = not preference(inner, outer) and not preference(outer, inner)
        assert tied or (margin is not None and margin[vote] == 0)


@every_criterion
@examples
@given(evidence(), st.sampled_from([2.0**-10, 0.5, 4.0, 2.0**10]))
def test_the_unit_of_losses_and_of_vectors_does_not_matter(name: str, evidence: Evidence, unit: float) -> None:
    scaled = Evidence(
        evidence.inner_losses * unit, evidence.outer_losses * unit, evidence.gain / unit, evidence.nearness * unit
    )
    assert torch.equal(prefers_outer(name, evidence), prefers_outer(name, scaled))


@every_criterion
@examples
@given(evidence())
def test_many_votes_at_once_are_the_votes_one_by_one(name: str, evidence: Evidence) -> None:
    assert isinstance(evidence.gain, Tensor) and isinstance(evidence.nearness, Tensor)
    alone = [
        prefers_outer(name, Evidence(*one))
        for one in zip(evidence.inner_losses, evidence.outer_losses, evidence.gain, evidence.nearness, strict=True)
    ]
    assert torch.equal(prefers_outer(name, evidence), torch.stack(alone))


@every_criterion
@examples
@given(evidence())
def test_the_only_candidate_of_a_finite_loss_is_chosen(name: str, evidence: Evidence) -> None:
    inner, outer = evidence.inner_mean.isfinite(), evidence.outer_mean.isfinite()
    found = prefers_outer(name, evidence)
    assert torch.equal(found[inner != outer], outer[inner != outer])


@every_criterion
@examples
@given(evidence())
def test_where_nothing_else_is_known_the_means_decide(name: str, evidence: Evidence) -> None:
    known = replace(evidence, gain=nan, nearness=nan)
    means = preference(evidence.inner_mean, evidence.outer_mean)
    found = prefers_outer(name, known)
    close = evidence.inner_mean.double() - evidence.outer_mean.double()
    plain = close.abs() > 1e-5  # below it, means in float32 and in float64 may find other signs
    assert torch.equal(found[plain], means[plain])


@pytest.mark.parametrize(
    ("inner", "outer", "gain", "chosen"),
    [
        ([1.0, 2.0, 3.0], [2.0, 3.1, 3.9], -1.0, "inner"),  # conclusive: every example says so
        ([2.0, 3.1, 3.9], [1.0, 2.0, 3.0], 1.0, "outer"),
        ([1.0, 2.0, 3.0], [3.0, 1.0, 3.5], -1.0, "outer"),  # not conclusive
        ([1.0, 2.0, 3.0], [3.0, 1.0, 3.5], 0.0, "inner"),
        ([1.0, 1.0], [2.0, 2.0], -1.0, "inner"),  # no spread at all
        ([1.0, 1.0], [1.0, 1.0], -1.0, "outer"),
        ([1.0], [2.0], -1.0, "outer"),  # one example has no standard error
        ([1.0], [2.0], nan, "inner"),
        ([3.0], [2.0], nan, "outer"),
        ([nan, 1.0], [9.0, 1.0], 1.0, "outer"),
        ([nan, 1.0], [inf, 1.0], -1.0, "outer"),  # both are broken: v_i may still know
        ([nan, 1.0], [inf, 1.0], nan, "inner"),
    ],
)
def test_mixed_asks_the_second_momentum_where_the_losses_are_not_conclusive(
    inner: list[float], outer: list[float], gain: float, chosen: str
) -> None:
    assert choice("mixed", inner, outer, gain=gain) == chosen


def test_two_standard_errors_are_the_limit() -> None:
    # Differences 1 and 1 + 2s: the mean is 1 + s, its standard error s.
    assert choice("mixed", [1.0, 2.9], [0.0, 0.0], gain=1.0) == "outer"
    assert choice("mixed", [1.0, 3.1], [0.0, 0.0], gain=1.0) == "inner"


@settings(deadline=None, max_examples=20)  # the first comparison imports half of torch
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10))
def test_margins_are_what_their_formulas_say_of_both_aggregates(seed: int, gamma: float) -> None:
    random = torch.Generator().manual_seed(seed)
    theta, r, q, *own = torch.randn(5, 50, generator=random, dtype=torch.float64)
    vectors = torch.stack(own)
    inner, outer = theta - gamma * r, theta - gamma * q
    torch.testing.assert_close(gain(vectors, inner, outer), gamma * vectors @ (r - q))
    squares = [(vectors - aggregate).square().sum(dim=1) for aggregate in (q, r)]
    found = nearness(vectors, theta, inner, outer, Step(gamma))
    torch.testing.assert_close(found, gamma**2 * (squares[0] - squares[1]))


def test_the_examples_in_the_docstrings_are_right() -> None:
    assert doctest.testmod(criteria, extraglobs={"torch": torch}).failed == 0


def test_a_product_of_more_numbers_than_are_widened_at_once_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    v, inner, outer = torch.randn(3, 10, generator=torch.Generator().manual_seed(1))
    whole = gain(v, inner, outer)
    monkeypatch.setattr("ostrakon.common.criteria._BLOCK", 3)
    torch.testing.assert_close(gain(v, inner, outer), whole)
