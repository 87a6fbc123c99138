"""What Byzantine workers vote."""

from itertools import product
from math import inf, nan

import numpy as np
import pytest
import torch

from ostrakon.common.choice import Choice
from ostrakon.common.criteria import CRITERIA, Evidence
from ostrakon.worker.attacks import VOTES, pivotal


def vote(name: str, honest: Choice = "inner", seed: int = 0) -> Choice | None:
    return VOTES[name](honest, np.random.default_rng(seed))


def honest(criterion: str, inner: float, outer: float, gain: float = nan, nearness: float = nan) -> Choice:
    evidence = Evidence(torch.tensor([inner]), torch.tensor([outer]), gain, nearness)
    return "outer" if CRITERIA[criterion].prefers_outer(evidence) else "inner"


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
    assert vote("larger-loss", honest("loss", inner, outer)) == choice


@pytest.mark.parametrize(
    ("criterion", "known", "choice"),
    [
        ("momentum", {"gain": 1.0}, "outer"),
        ("momentum", {"gain": -1.0}, "inner"),
        ("mixed", {"gain": 0.0}, "outer"),
        ("proximity", {"nearness": -1.0}, "inner"),
        ("proximity", {"gain": -1.0}, "outer"),
    ],
)
def test_under_every_criterion_the_worse_by_it_is_voted_for(
    criterion: str, known: dict[str, float], choice: Choice
) -> None:
    assert vote("larger-loss", honest(criterion, 1.0, 2.0, **known)) == choice


def test_the_other_votes_are_what_they_are_called() -> None:
    choices: tuple[Choice, Choice] = ("inner", "outer")
    for choice in choices:
        assert vote("inner", choice) == "inner"
        assert vote("outer", choice) == "outer"
        assert vote("silent", choice) is None
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
