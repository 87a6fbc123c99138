"""Rules on many rounds at once: where they are sure, they decide what each would alone."""

import pytest
import torch
from torch import Tensor

from ostrakon.common.aggregation import RULES, rule
from ostrakon.common.aggregation.side_by_side import Chosen, aggregates
from ostrakon.experiments.yardsticks import rule_of

N, F, D = 9, 3, 60
CLUSTERED = ("Cent1P", "Mean1P", "Cent2P", "Mean2P", "Krum", "Multi-Krum", "Multi-Krum(m=3)")
SURE = ("Avg", "Honest", "GM", "GM(iterations=3)", "CClip", "CClip(tau=3, iterations=2)", "CWM", "CWTM")
NAMES = (*CLUSTERED, *SURE)


def rounds(kind: str, count: int = 6) -> Tensor:
    """(count, N, D): the first F rows are of liars."""
    made = torch.Generator().manual_seed(count)
    x = torch.randn(count, N, D, generator=made)
    x[:, :F] *= -1.5
    if kind == "tied":  # whole numbers: many distances are equal
        x = torch.randint(0, 2, (count, N, 4), generator=made).float()
    elif kind == "duplicates":
        x[:, :F] = x[:, :1]
    elif kind == "mimics":  # one more row equals those of the liars than a cluster holds
        x[:, :F] = x[:, F, None]
    elif kind == "huge row":
        x[:, 0] *= 1e30
    elif kind == "huge rows":
        x[:, :F] *= 3e37
    elif kind == "near-identical":
        x = 1000 + 1e-3 * x
    elif kind == "far from 0":
        x = 3e6 + x
    elif kind == "all equal":
        x[:] = x[:, :1]
    elif kind == "not finite":
        x[::2, 0, 0], x[1::4, 0, 0] = torch.inf, torch.nan
    return x


def compare(name: str, x: Tensor, f: int) -> list[bool]:
    """Assert that what is sure is what the rule makes of each round alone; returns what is sure."""
    chosen = rule_of(name, F)
    assert chosen.side_by_side is not None
    vectors, sure = aggregates(chosen.side_by_side, x, f)
    decided = chosen.side_by_side(x, f)
    sets = decided.sets if isinstance(decided, Chosen) else vectors  # no rows are decided on
    assert vectors.shape == (len(x), 2 if chosen.two_phase else 1, x.shape[2])
    for rows, found, those, certain in zip(x, vectors, sets, sure.tolist(), strict=True):
        if certain:
            alone = chosen.aggregate(rows, f)
            if name in CLUSTERED:
                clusters = [those[0].nonzero().flatten(), *(one.logical_not().nonzero().flatten() for one in those[1:])]
                assert [tuple(one.tolist()) for one in clusters] == [one.cluster for one in alone]
            torch.testing.assert_close(found, torch.stack([one.vector for one in alone]), rtol=1e-6, atol=1e-30)
    return sure.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_rounds_side_by_side_are_decided_as_alone_where_that_is_sure(name: str) -> None:
    for kind in ("ordinary", "duplicates", "mimics", "huge row", "far from 0", "all equal"):
        for f in (0, 1, F):
            sure = compare(name, rounds(kind), f)
            # Two rows may be each other's farthest in the smallest ball: which is its centre, rounding may decide.
            assert sum(sure) >= (5 if name.startswith("Cent") else 6), (kind, f)


@pytest.mark.parametrize("name", NAMES)
def test_rounds_that_rounding_could_decide_are_not_sure(name: str) -> None:
    for kind in ("tied", "huge rows", "near-identical"):
        for f in (0, 1, F):
            compare(name, rounds(kind), f)
    assert compare(name, rounds("not finite"), F) == [False, False, False, True, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_a_round_on_its_own_is_read_and_not_written_to(name: str) -> None:
    x = rounds("not finite")[1:2].clone()  # a row holds NaN
    before = x.clone()
    assert compare(name, x, F) == [False]
    assert torch.equal(x.nan_to_num(7.0), before.nan_to_num(7.0))


def test_a_wide_matrix_goes_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rounds("ordinary")
    whole, of_blocks = (
        [aggregates(choose, x, F)[0] for name in NAMES if (choose := rule_of(name, F).side_by_side)]
        for blocks in (None, monkeypatch.setattr("ostrakon.common.aggregation.side_by_side._BLOCK_BYTES", 8 * 7 * 108))
    )
    for one, other in zip(whole, of_blocks, strict=True):
        torch.testing.assert_close(one, other)


def test_of_all_rules_these_can_be_decided_side_by_side() -> None:
    assert {name for name, one in RULES.items() if one.side_by_side} == {
        name for name in NAMES if "(" not in name and name != "Honest"
    }
    for name in ("NNM+Mean1P", "NNM+Avg", "TwoPhase(Mean1P, Avg)"):  # of which a part could be
        assert rule(name).side_by_side is None
