"""What Byzantine workers vote."""

from itertools import product
from math import inf, nan

import numpy as np
import pytest

from ostrakon.common.choice import Choice
from ostrakon.worker.attacks import VOTES, pivotal


def vote(name: str, inner_loss: float = 1.0, outer_loss: float = 2.0, seed: int = 0) -> Choice | None:
    return VOTES[name](inner_loss, outer_loss, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("inner", "outer", "choice"),
    [
        (1.0, 2.0, "outer"),
        (2.0, 1.0, "inner"),
        (1.0, 1.0, "outer"),
        (nan, 5.0, "inner"),
        (5.0, nan, "outer"),
        (-inf, 5.0, "inner"),
        (nan, inf, "outer"),
        (inf, nan, "outer"),
    ],
)
def test_the_larger_loss_wins_and_outer_wins_ties(inner: float, outer: float, choice: Choice) -> None:
    assert vote("larger-loss", inner, outer) == choice


def test_the_other_votes_are_what_they_are_called() -> None:
    for losses in ((1.0, 2.0), (2.0, 1.0)):
        assert vote("inner", *losses) == "inner"
        assert vote("outer", *losses) == "outer"
        assert vote("silent", *losses) is None
    drawn = [vote("random", seed=seed) for seed in range(100)]
    assert 30 < drawn.count("inner") < 70
    assert drawn.count("inner") + drawn.count("outer") == 100


def winner(inner: int, outer: int) -> Choice:
    return "outer" if outer > inner else "inner"


@pytest.mark.parametrize(("inner", "outer", "colluders"), list(product(range(6), range(6), range(5))))
def test_a_pivotal_vote_is_cast_where_it_changes_the_outcome_or_is_waited_for(
    inner: int, outer: int, colluders: int
) -> None:
    choice = pivotal(inner, outer, colluders)
    honest = winner(inner, outer)
    turned = {"inner": winner(inner + colluders, outer), "outer": winner(inner, outer + colluders)}
    if set(turned.values()) != {honest}:
        assert choice is not None
        assert turned[choice] == choice != honest
    elif inner - outer == colluders:  # the server would wait for them: so few as to make a tie are enough for that
        assert choice == "inner"
    else:
        assert choice is None
        assert abs(inner - outer) > colluders  # decided without them
