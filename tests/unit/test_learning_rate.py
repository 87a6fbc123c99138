"""How the learning rate changes over the rounds, and the step that comes of it."""

import doctest
import math

import numpy as np
import pytest
import torch

from ostrakon.common import learning_rate as module
from ostrakon.common.aggregation import rule
from ostrakon.common.algorithm import Step, step
from ostrakon.common.bf16 import candidate, rounded, widened
from ostrakon.common.errors import OstrakonError
from ostrakon.common.learning_rate import learning_rate, step_of
from ostrakon.server.core.aggregator import Aggregator


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(module).failed == 0


def test_a_warmup_rises_to_its_rate_and_stays() -> None:
    rates = [learning_rate("0.5*warmup(4)").at(round) for round in range(1, 7)]
    assert rates == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_a_cosine_falls_to_nothing_and_stays_there() -> None:
    rates = [learning_rate("0.5*cosine(100)").at(round) for round in range(1, 103)]
    assert rates[0] == 0.5 and rates[50] == pytest.approx(0.25) and 0 < rates[99] < 0.001
    assert rates[100:] == [0, 0]
    assert rates == sorted(rates, reverse=True)


def test_factors_are_multiplied_and_count_the_rounds_of_the_run() -> None:
    found = learning_rate("0.5*warmup(10)*cosine(20),0.1*cosine(20)@11")
    assert found.at(5) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi * 4 / 20)) / 2)
    assert found.at(11) == pytest.approx(0.1 * 0.5)
    assert found.largest == 0.5


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("0.50", 0.5),
        ("0.5@0", 0.5),
        (" 0.5 , 0.05@200 ", "0.5@0,0.05@200"),
        ("0.1 * warmup( 30 ) * cosine(400)", "0.1*warmup(30)*cosine(400)"),
        ("1@1,5e-2*cosine(9)@3", "1.0@1,0.05*cosine(9)@3"),
    ],
)
def test_a_schedule_is_kept_in_one_form(text: str, plain: float | str) -> None:
    assert learning_rate(text).plain == plain
    assert learning_rate(plain) == learning_rate(str(plain))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write NAME@ROUND, as in 0.5@0,0.05@200"),
        ("fast", "'fast' does not begin with a number"),
        ("warmup(3)*0.1", "'warmup(3)*0.1' does not begin with a number"),
        ("0.5@0,none@50", "none is no learning rate"),
        ("0.5@2", "it says nothing of the first round"),
        ("0.5@0,0.1@0", "begins no later than what stands before it"),
        ("0.5*warmpu(3)", "unknown factor of a learning rate 'warmpu'; did you mean warmup?"),
        ("0.5*cosine", "write cosine(ROUNDS), as in cosine(400)"),
        ("0.5*cosine(0)", "write cosine(ROUNDS), as in cosine(400)"),
        ("0.5*cosine(2.5)", "write cosine(ROUNDS), as in cosine(400)"),
        ("0.5*cosine(rounds=3)", "write cosine(ROUNDS), as in cosine(400)"),
        ("0.5*2", "'2' cannot be read"),
        ("0", "expected a finite number above 0"),
        ("-0.1@0,0.5@3", "expected a finite number above 0"),
        ("0.5,inf@3", "expected a finite number above 0"),
        ("1e39", "float32, in which models are computed, cannot hold it"),
    ],
)
def test_what_is_no_schedule_of_learning_rates_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(OstrakonError) as refusal:
        learning_rate(text)
    assert said in str(refusal.value)


def test_a_step_without_weight_decay_is_the_papers_to_the_last_bit() -> None:
    theta, aggregate = torch.randn(2, 1000, generator=torch.Generator().manual_seed(1))
    expected = torch.sub(theta, aggregate, alpha=0.3)
    assert torch.equal(step(theta, aggregate.clone(), step_of(0.3, 0, 1)), expected)
    assert step_of(0.3, 0, 1) == Step(0.3, 1)


def test_weight_decay_shrinks_the_model_whatever_the_aggregate() -> None:
    theta, aggregate = torch.randn(2, 1000, generator=torch.Generator().manual_seed(2))
    taken = step_of("0.5,0.2@10", 0.1, 10)
    assert taken.keep == pytest.approx(0.98)
    exact = 0.98 * theta.double() - 0.2 * aggregate.double()
    torch.testing.assert_close(step(theta, aggregate.clone(), taken).double(), exact, rtol=1e-6, atol=1e-6)
    half = rounded(aggregate.numpy())
    formed = candidate(theta.numpy(), half, taken)
    keep, gamma = np.float32(taken.keep), np.float32(taken.gamma)
    np.testing.assert_array_equal(formed, theta.numpy() * keep - widened(half) * gamma)


@pytest.mark.parametrize("wire", ["float32", "bf16"])
def test_both_candidates_decay_alike(wire: str) -> None:
    d, theta = 8, np.full(8, 10, np.float32)
    found = {}
    for decay in (0, 0.5):
        aggregator = Aggregator(rule("Mean2P"), 5, d, torch.device("cpu"), "bf16" if wire == "bf16" else "float32")
        for position, value in enumerate((1.0, 1.5, 2.0, 30.0, 31.0)):
            aggregator.row(position)[:] = value
        inner, outer = aggregator.candidates(theta, range(5), 2, step_of(0.5, decay, 1))
        assert inner is not None and outer is not None and inner.digest != outer.digest
        found[decay] = inner.theta, outer.theta
    for before, after in zip(found[0], found[0.5], strict=True):
        np.testing.assert_allclose(before - after, 0.25 * theta, rtol=1e-6)
