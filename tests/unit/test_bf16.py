"""bfloat16 as torch has it, error feedback, and candidates that come out the same wherever they are formed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ostrakon.common.algorithm import Step
from ostrakon.common.bf16 import ErrorFeedback, candidate, rounded, upper_half, widened

FLOATS = st.lists(st.floats(width=32), min_size=1, max_size=40)
MANY = 600_000  # more than two blocks


def of_torch(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).to(torch.bfloat16).float().numpy()


@given(FLOATS)
def test_values_are_rounded_as_torch_rounds_them(values: list[float]) -> None:
    vector = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(widened(rounded(vector)), of_torch(vector))


def test_a_vector_of_several_blocks_can_be_widened_within_its_own_memory() -> None:
    vector = np.random.default_rng(1).standard_normal(MANY, dtype=np.float32)
    row = np.empty_like(vector)
    upper_half(row)[:] = rounded(vector)
    assert widened(upper_half(row), into=row) is row
    np.testing.assert_array_equal(row, of_torch(vector))


@pytest.mark.parametrize("odd", [3, 1])
def test_a_row_of_an_odd_length_has_an_upper_half_too(odd: int) -> None:
    row = np.empty(odd, dtype=np.float32)
    upper_half(row)[:] = rounded(np.arange(1, odd + 1, dtype=np.float32))
    assert widened(upper_half(row), into=row).tolist() == list(range(1, odd + 1))


def test_a_candidate_is_formed_in_two_roundings() -> None:
    rng = np.random.default_rng(2)
    theta, aggregate = rng.standard_normal((2, MANY), dtype=np.float32)
    half = rounded(aggregate)
    product = torch.from_numpy(widened(half)) * np.float32(0.1)  # two operations of torch, which nobody fuses
    np.testing.assert_array_equal(candidate(theta, half, Step(0.1)), (torch.from_numpy(theta) - product).numpy())


def test_what_rounding_takes_is_sent_later() -> None:
    feedback, momentum = ErrorFeedback(), np.full(3, 1.001, dtype=np.float32)  # a bfloat16 has steps of 2**-7 there
    sent = [feedback(round, "base", momentum) for round in range(1, 201)]
    assert np.abs(np.array(sent) - momentum).max() > 1e-4
    np.testing.assert_allclose(np.mean(sent, axis=0), momentum, atol=2**-7 / 200)


def test_a_round_that_is_worked_again_is_sent_the_same() -> None:
    feedback, momentum = ErrorFeedback(), np.full(3, 1.001, dtype=np.float32)
    first = feedback(1, "base", momentum)
    assert feedback(1, "base", momentum) is first
    assert [float(feedback(round, "base", momentum)[0]) for round in (2, 3)] == [1.0, 1.0]


def test_a_momentum_beyond_the_largest_value_does_not_spoil_what_follows() -> None:
    feedback = ErrorFeedback()
    huge = np.array([3.4e38], dtype=np.float32)
    assert np.isinf(feedback(1, "base", huge))
    assert feedback(2, "base", np.ones(1, dtype=np.float32)) == 1.0
