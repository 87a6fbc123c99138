"""What corrupted workers send, and how users name it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import OstrakonError
from worker.attacks import ATTACKS, attack
from worker.sampling import ATTACK, generator

MOMENTUM = np.random.default_rng(5).standard_normal(1000).astype(np.float32)


def sent(text: str, *, seed: int = 1, worker: int = 0, round: int = 1) -> NDArray[np.float32]:
    return attack(text).send(MOMENTUM.copy(), generator(seed, ATTACK, worker, round))


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_writes_into_the_true_momentum(name: str) -> None:
    momentum = MOMENTUM.copy()
    momentum.flags.writeable = False
    found = attack(name).send(momentum, np.random.default_rng(0))
    np.testing.assert_array_equal(momentum, MOMENTUM)
    assert found.shape == momentum.shape and found.dtype == np.float32 and found.flags.c_contiguous


def test_sf_sends_the_opposite() -> None:
    np.testing.assert_array_equal(sent("SF"), -MOMENTUM)
    np.testing.assert_allclose(sent("SF(scale=10)"), -10 * MOMENTUM, rtol=1e-6)


@pytest.mark.parametrize(("text", "factor"), [("Gauss", 1), ("Gauss(scale=3)", 3)])
def test_gauss_has_the_norm_of_the_momentum_and_nothing_else_of_it(text: str, factor: float) -> None:
    noise = sent(text)
    norm = np.linalg.norm(MOMENTUM)
    assert np.linalg.norm(noise) == pytest.approx(factor * norm, rel=1e-5)
    assert abs(noise @ MOMENTUM) < 0.2 * factor * norm**2


def test_gauss_follows_from_seed_worker_and_round() -> None:
    np.testing.assert_array_equal(sent("Gauss"), sent("Gauss"))
    draws = [sent("Gauss"), sent("Gauss", seed=2), sent("Gauss", worker=1), sent("Gauss", round=2)]
    assert len({draw.tobytes() for draw in draws}) == 4


def test_gauss_of_no_momentum_is_nothing() -> None:
    zero = np.zeros(10, np.float32)
    np.testing.assert_array_equal(attack("Gauss").send(zero, np.random.default_rng(0)), zero)


def test_lf_lies_in_its_labels_alone() -> None:
    assert attack("LF").flips_labels
    np.testing.assert_array_equal(sent("LF"), MOMENTUM)
    assert not attack("SF").flips_labels and not attack("Gauss").flips_labels


def test_an_unknown_attack_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OstrakonError, match=r"unknown attack 'Gaus'; did you mean Gauss\? \(known: SF, Gauss, LF\)"):
        attack("Gaus")


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OstrakonError, match=r"attack SF has no parameter scael \(known: scale\)"):
        attack("SF(scael=10)")
    with pytest.raises(OstrakonError, match=r"attack LF has no parameter scale \(known: none\)"):
        attack("LF(scale=10)")


@pytest.mark.parametrize("value", ["'big'", "None", "True", "[1]", "1e999", "1e39", "10**400"])
def test_a_parameter_that_is_no_usable_number_is_refused(value: str) -> None:
    with pytest.raises(OstrakonError, match="scale"):
        attack(f"SF(scale={value})")
