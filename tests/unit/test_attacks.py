"""What corrupted workers send: each attack against its formula, written out number by number."""

import doctest
import math
from collections.abc import Callable
from statistics import NormalDist, mean, pstdev
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ostrakon.common.aggregation import rule
from ostrakon.common.errors import OstrakonError
from ostrakon.worker.attacks import (
    ATTACKS,
    Defence,
    alone,
    attack,
    attack_schedule,
    moments,
    naming,
    omniscient,
    tailored,
    votes,
)
from ostrakon.worker.sampling import ATTACK, generator

H, B, D = 6, 3, 40
RNG = np.random.default_rng(5)
HONEST = (RNG.standard_normal((H, D)) + 0.3).astype(np.float32)
CORRUPTED = (RNG.standard_normal((B, D)) + 0.3).astype(np.float32)
MEAN_2_P = Defence(rule("Mean2P"), H + B, B)

Rows = NDArray[np.float32]
Wide = list[list[float]]


def send(
    text: str, honest: Rows = HONEST, corrupted: Rows = CORRUPTED, defence: Defence = MEAN_2_P, seed: int = 1
) -> Rows:
    rng = generator(seed, ATTACK, 0, 1)
    sent: Rows = (
        attack(text).send(torch.from_numpy(honest), torch.from_numpy(corrupted), rng=rng, defence=defence).numpy()
    )
    return sent


def columns(*rows: Rows) -> list[list[float]]:
    """Coordinate by coordinate, the values of all rows."""
    return [[float(value) for value in column] for column in np.concatenate(rows).T]


# Direct transcriptions: what one of the corrupted sends where all send the same.


def omn(factor: float = 2.0) -> list[float]:
    n = H + B
    return [
        mean(b) - factor * n / B * mean(x) for b, x in zip(columns(CORRUPTED), columns(HONEST, CORRUPTED), strict=True)
    ]


def ipm(epsilon: float) -> list[float]:
    return [-epsilon * mean(x) for x in columns(HONEST)]


def shifted(factor: float, *rows: Rows) -> list[float]:
    return [mean(x) - factor * pstdev(x) for x in columns(*rows)]


def alie() -> list[float]:
    n, f = H + B, B
    s = math.floor(n / 2 + 1) - f
    return shifted(NormalDist().inv_cdf((n - f - s) / (n - f)), HONEST)


def sneak() -> list[float]:
    centre = [mean(x) for x in columns(HONEST)]
    least = sorted(range(H), key=lambda i: sum(float(a) * b for a, b in zip(HONEST[i], centre, strict=True)))[:B]
    return [mean(x) for x in columns(HONEST[least])]


ALL_THE_SAME: dict[str, Callable[[], list[float]]] = {
    "Omn": omn,
    "Omn(factor=5)": lambda: omn(5),
    "Empire": lambda: ipm(0.1),
    "IPM": lambda: ipm(0.5),
    "IPM(epsilon=30)": lambda: ipm(30),
    "SV": lambda: shifted(20, HONEST, CORRUPTED),
    "SV(factor=1, of='honest')": lambda: shifted(1, HONEST),
    "ALIE": alie,
    "ALIE(z=1.5)": lambda: shifted(1.5, HONEST),
    "ALIE(z=1.5, of='corrupted')": lambda: shifted(1.5, CORRUPTED),
    "Mimic": lambda: HONEST[0].tolist(),
    "Mimic(target=2)": lambda: HONEST[2].tolist(),
    "Mimic(target=99)": lambda: HONEST[-1].tolist(),
    "sneak": sneak,
}


@pytest.mark.parametrize("text", ALL_THE_SAME)
def test_attacks_in_which_all_send_the_same_are_their_formulas(text: str) -> None:
    expected = np.array([ALL_THE_SAME[text]()] * B)
    np.testing.assert_allclose(send(text), expected, rtol=1e-5, atol=1e-5)


def test_sf_sends_the_opposite_of_each() -> None:
    np.testing.assert_array_equal(send("SF"), -CORRUPTED)
    np.testing.assert_allclose(send("SF(scale=10)"), -10 * CORRUPTED, rtol=1e-6)


def test_lf_lies_in_its_labels_alone() -> None:
    assert attack("LF").flips_labels
    np.testing.assert_array_equal(send("LF"), CORRUPTED)
    assert [name for name, entry in ATTACKS.items() if entry.flips_labels] == ["LF"]


@pytest.mark.parametrize(("text", "factor"), [("Gauss", 1), ("Gauss(scale=3)", 3)])
def test_gauss_has_the_norms_of_the_true_vectors_and_nothing_else_of_them(text: str, factor: float) -> None:
    true = np.random.default_rng(1).standard_normal((2, 4000)).astype(np.float32)
    noise = send(text, true, true)
    np.testing.assert_allclose(np.linalg.norm(noise, axis=1), factor * np.linalg.norm(true, axis=1), rtol=1e-5)
    cosines = (noise @ true.T) / np.outer(np.linalg.norm(noise, axis=1), np.linalg.norm(true, axis=1))
    assert np.abs(cosines).max() < 0.1
    assert not np.array_equal(noise[0], noise[1])
    np.testing.assert_array_equal(send("Gauss", true[:, :4], np.zeros((1, 4), np.float32)), np.zeros((1, 4)))


def test_what_is_drawn_follows_from_the_random_numbers_given() -> None:
    for text in ("Gauss", "siege"):
        np.testing.assert_array_equal(send(text), send(text))
        assert not np.array_equal(send(text), send(text, seed=2))


def test_omn_turns_the_plain_average_around() -> None:
    true = np.concatenate([CORRUPTED, HONEST]).mean(axis=0, dtype=np.float64)
    found = np.concatenate([send("Omn"), HONEST]).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(found, -true, rtol=1e-4, atol=1e-5)


def search(allowed: Callable[[NDArray[np.float64]], bool], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The authors' way: the largest step along p that is allowed, by halving."""
    centre = HONEST.mean(axis=0, dtype=np.float64)
    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if allowed(centre + middle * p) else (low, middle)
    return centre + low * p


def perturbations() -> dict[str, NDArray[np.float64]]:
    centre = HONEST.mean(axis=0, dtype=np.float64)
    deviation = np.array([pstdev(x) for x in columns(HONEST)])
    return {"std": -deviation, "sign": -np.sign(centre), "unit": -centre / np.linalg.norm(centre)}


@pytest.mark.parametrize("direction", ["std", "sign", "unit"])
def test_min_max_goes_as_far_as_the_two_honest_that_are_farthest_apart(direction: str) -> None:
    wide = HONEST.astype(np.float64)
    most = max(np.linalg.norm(a - b) for a in wide for b in wide)
    expected = search(lambda x: max(np.linalg.norm(x - a) for a in wide) <= most, perturbations()[direction])
    np.testing.assert_allclose(send(f"Min-Max(direction={direction!r})"), [expected] * B, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["std", "sign", "unit"])
def test_min_sum_goes_as_far_as_the_honest_one_that_is_farthest_from_all(direction: str) -> None:
    wide = HONEST.astype(np.float64)
    most = max(sum(np.linalg.norm(a - b) ** 2 for b in wide) for a in wide)
    expected = search(lambda x: sum(np.linalg.norm(x - a) ** 2 for a in wide) <= most, perturbations()[direction])
    np.testing.assert_allclose(send(f"Min-Sum(direction={direction!r})"), [expected] * B, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Min-Max", "Min-Sum"])
def test_honest_workers_that_agree_leave_no_room(name: str) -> None:
    same = np.ones((H, D), np.float32)
    np.testing.assert_allclose(send(name, same), np.ones((B, D)))


@pytest.mark.parametrize("name", ["Avg", "CWM", "Krum", "Mean1P", "Mean2P", "Cent2P"])
def test_pga_sends_the_most_harmful_step_of_its_grid(name: str) -> None:
    chosen = rule(name)
    centre = HONEST.mean(axis=0, dtype=np.float64)
    reach = max(np.linalg.norm(row - centre) for row in HONEST.astype(np.float64))
    harms, tried = [], []
    for k in range(13):
        x = centre + 2.0**k / 16 * reach / math.sqrt(D) * -np.sign(centre)
        rows = torch.from_numpy(np.concatenate([np.array([x] * B, np.float32), HONEST]))
        results = [aggregate.vector.double().numpy() for aggregate in chosen.aggregate(rows, B)]
        harms.append(min(np.linalg.norm(result - centre) for result in results))
        tried.append(x)
    found = send("PGA", defence=Defence(chosen, H + B, B))
    harm = next(h for h, x in zip(harms, tried, strict=True) if np.allclose(found[0], x, rtol=1e-4, atol=1e-5))
    assert harm >= max(harms) * (1 - 1e-6)
    assert (found == found[0]).all()


def test_pga_reckons_with_those_that_the_server_will_miss() -> None:
    # 9 on the roster, f = 4, 2 of them silent: the server calls the rule with 7 rows and f = 2.
    few, own = HONEST[:5], CORRUPTED[:2]
    found = send("PGA", few, own, Defence(rule("CWTM"), 9, 4))
    np.testing.assert_array_equal(found, send("PGA", few, own, Defence(rule("CWTM"), 7, 2)))
    assert not np.array_equal(found, send("PGA", few, own, Defence(rule("CWTM"), 7, 3)))


def test_sneak_is_inside_the_cloud_and_siege_around_it() -> None:
    centre = HONEST.mean(axis=0)
    distances = np.linalg.norm(HONEST - centre, axis=1)
    inside = send("sneak") - centre
    assert np.linalg.norm(inside, axis=1).max() < distances.max()
    around = send("siege") - centre
    np.testing.assert_allclose(np.linalg.norm(around, axis=1), 2 * distances.max(), rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(send("siege(radius=5)") - centre, axis=1), 5 * distances.max(), rtol=1e-4)
    for shift in (inside, around):
        assert (shift @ centre < 0).all()  # on the wrong side
    # Those inside are one point, those around are farther from each other than the honest are.
    assert (inside == inside[0]).all()
    apart = min(np.linalg.norm(around[i] - around[j]) for i in range(B) for j in range(i))
    assert apart > distances.max()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(("h", "b", "d"), [(1, 1, 1), (2, 1, 5), (3, 2, 300), (8, 7, 20000)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_an_attack_answers_in_kind_and_writes_into_nothing(
    name: str, h: int, b: int, d: int, kind: torch.dtype
) -> None:
    if name == "ALIE" and h == 1:
        return  # it has no z
    rng = np.random.default_rng(0)
    honest, corrupted = (torch.from_numpy(rng.standard_normal((rows, d))).to(kind) for rows in (h, b))
    before = honest.clone(), corrupted.clone()
    defence = Defence(rule("Avg"), h + b, (h + b - 1) // 2)
    sent = attack(name).send(honest, corrupted, rng=rng, defence=defence)
    assert sent.shape == corrupted.shape and sent.dtype == kind
    assert torch.isfinite(sent).all()
    assert torch.equal(honest, before[0]) and torch.equal(corrupted, before[1])


@pytest.mark.parametrize("name", [name for name, entry in ATTACKS.items() if entry.knows == "alone"])
def test_who_attacks_alone_looks_at_no_honest_vector(name: str) -> None:
    np.testing.assert_array_equal(send(name), send(name, HONEST[:0]))


@pytest.mark.parametrize("name", [name for name, entry in ATTACKS.items() if entry.knows == "omniscient"])
def test_who_needs_honest_vectors_says_so_without_them(name: str) -> None:
    with pytest.raises(OstrakonError, match=f"attack {name} needs the vectors of honest workers"):
        send(name, HONEST[:0])


@pytest.mark.parametrize(("name", "missing"), [("Gauss", "rng"), ("siege", "rng"), ("PGA", "defence")])
def test_what_an_attack_was_not_given_is_named(name: str, missing: str) -> None:
    with pytest.raises(OstrakonError, match=f"attack {name} needs {missing}="):
        attack(name).send(torch.ones(2, 3), torch.ones(1, 3))


def test_alie_finds_a_z_even_where_the_corrupted_are_the_majority_of_what_came() -> None:
    assert np.isfinite(send("ALIE", HONEST[:2], CORRUPTED)).all()


def test_alie_without_a_z_says_so() -> None:
    with pytest.raises(OstrakonError, match=r"attack ALIE finds no z for 1 corrupted of n=2 workers.*give z"):
        send("ALIE", HONEST[:1], CORRUPTED[:1])


@pytest.mark.parametrize("module", [alone, omniscient, tailored, votes, naming], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_are_true(module: Any) -> None:
    found = doctest.testmod(module, extraglobs={"torch": torch, "np": np})
    assert found.failed == 0 and found.attempted > 0


def test_the_deviation_is_that_of_numpy_whatever_the_width() -> None:
    rows = np.random.default_rng(2).standard_normal((4, 40_000)).astype(np.float32) + 1000
    np.testing.assert_allclose(
        moments.deviation(torch.from_numpy(rows)), rows.astype(np.float64).std(axis=0), rtol=1e-6
    )


def test_an_unknown_attack_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OstrakonError, match=r"unknown attack 'Gaus'; did you mean Gauss\? \(known: LF, SF, Gauss, "):
        attack("Gaus")


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OstrakonError, match=r"attack SF has no parameter scael \(known: scale\)"):
        attack("SF(scael=10)")
    with pytest.raises(OstrakonError, match=r"attack LF has no parameter scale \(known: none\)"):
        attack("LF(scale=10)")
    with pytest.raises(OstrakonError, match="attack Gauss has no parameter rng"):
        attack("Gauss(rng=1)")


@pytest.mark.parametrize("value", ["'big'", "True", "[1]", "1e999", "1e39", "10**400", "None"])
def test_a_parameter_that_is_no_usable_number_is_refused(value: str) -> None:
    with pytest.raises(OstrakonError, match="scale"):
        attack(f"SF(scale={value})")


def test_a_parameter_of_another_kind_is_refused_with_what_it_can_be() -> None:
    with pytest.raises(OstrakonError, match="give one of 'all', 'honest', 'corrupted'"):
        attack("SV(of='me')")
    for value in ("-1", "1.5", "True"):
        with pytest.raises(OstrakonError, match="whole number"):
            attack(f"Mimic(target={value})")


def test_attacks_change_with_the_rounds() -> None:
    attacks = attack_schedule("SF(scale=2)@0, SV(factor=3, of='all')@10,none@20")
    assert [found.name if (found := attacks.at(t)) else None for t in (1, 9, 10, 19, 20, 99)] == [
        *["SF(scale=2)"] * 2,
        *["SV(factor=3, of='all')"] * 2,
        None,
        None,
    ]
    assert attack_schedule(None).at(1) is None
    with pytest.raises(OstrakonError, match="unknown attack 'Onm'; did you mean Omn"):
        attack_schedule("SF@0,Onm@5")


@pytest.mark.parametrize(("honest", "corrupted"), [((2, 3), (0, 3)), ((2, 3), (1, 4)), ((3,), (1, 3)), ((2, 3), (3,))])
def test_vectors_of_other_shapes_are_refused(honest: tuple[int, ...], corrupted: tuple[int, ...]) -> None:
    with pytest.raises(OstrakonError, match=r"attack Omn takes \(h, d\) and \(b, d\)"):
        attack("Omn").send(torch.ones(honest), torch.ones(corrupted))


@pytest.mark.parametrize("text", ["SF(scale=-1)", "Empire(epsilon=0)", "siege(radius=-2)"])
def test_a_parameter_that_would_turn_an_attack_around_is_refused(text: str) -> None:
    with pytest.raises(OstrakonError, match="give a number above 0"):
        attack(text)
    assert attack("ALIE(z=-1)").parameters == {"z": -1}


def test_an_attack_on_many_rounds_at_once_is_what_it_is_on_each() -> None:
    vectors = torch.randn(3, 9, 50, generator=torch.Generator().manual_seed(1))
    corrupted, honest = vectors[:, :3], vectors[:, 3:]
    at_once = [name for name, entry in ATTACKS.items() if entry.side_by_side]
    assert set(at_once) == {"LF", "SF", "Omn", "Empire", "SV", "ALIE", "IPM", "Mimic"}
    for name in (*at_once, "SF(scale=3)", "Mimic(target=9)", "SV(of='honest')", "ALIE(of='corrupted')"):
        sent = attack(name).send(honest, corrupted)
        for rows, its_honest, its_corrupted in zip(sent, honest, corrupted, strict=True):
            torch.testing.assert_close(rows, attack(name).send(its_honest, its_corrupted), rtol=1e-6, atol=1e-7)
    with pytest.raises(OstrakonError, match=r"attack Min-Max takes \(h, d\) and \(b, d\)"):
        attack("Min-Max").send(honest, corrupted)
    with pytest.raises(OstrakonError, match=r"attack SF takes \(h, d\) and \(b, d\)"):
        attack("SF").send(honest[:2], corrupted)


def test_pga_tries_what_it_could_send_at_once_or_one_by_one() -> None:
    honest, corrupted = torch.from_numpy(HONEST), torch.from_numpy(CORRUPTED)
    for name in ("Mean2P", "Cent1P", "Avg", "CWTM"):
        for steps in (3, 13, 20):
            one_by_one, at_once = (
                attack(f"PGA(steps={steps})").send(
                    honest, corrupted, defence=Defence(rule(name), H + B, B, at_once=at_once)
                )
                for at_once in (False, True)
            )
            assert torch.equal(one_by_one, at_once)
