"""The vote: which candidate a worker prefers."""

from math import inf, nan

import numpy as np
import pytest
import torch
from torch import Tensor

from ostrakon.common.algorithm import preference
from ostrakon.common.choice import Choice
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.passes import initial_model
from ostrakon.worker.training import Training
from ostrakon.worker.voting import Voter
from tests.unit.small_task import SmallTask

GOOD = np.concatenate([np.eye(3, 8, dtype=np.float32).ravel(), np.zeros(3, np.float32)])


def voter(task: SmallTask, *, worker: int = 0, batch: int = 32) -> Voter:
    model = FlatModel(initial_model(task, 1), "cpu")
    return Voter(task, task.worker_data(worker, 4, 1), model, batch=batch, seed=1, worker=worker)


@pytest.mark.parametrize(
    ("inner", "outer", "choice"),
    [
        (1.0, 2.0, "inner"),
        (2.0, 1.0, "outer"),
        (1.0, 1.0, "inner"),
        (nan, 5.0, "outer"),
        (5.0, nan, "inner"),
        (inf, 5.0, "outer"),
        (-inf, 5.0, "outer"),
        (5.0, -inf, "inner"),
        (nan, nan, "inner"),
        (inf, nan, "inner"),
        (nan, inf, "inner"),
    ],
)
def test_the_smaller_finite_loss_wins_and_inner_wins_ties(inner: float, outer: float, choice: Choice) -> None:
    assert preference(inner, outer) == choice


def test_the_better_model_gets_the_vote_on_either_side() -> None:
    judge = voter(SmallTask()).judge
    assert judge(1, 5 * GOOD, GOOD).choice == "inner"
    assert judge(1, GOOD, 5 * GOOD).choice == "outer"


def test_both_candidates_are_judged_on_the_same_mini_batch() -> None:
    judge = voter(SmallTask()).judge
    for round in range(1, 20):
        ballot = judge(round, GOOD, GOOD.copy())
        assert ballot.inner_loss == ballot.outer_loss
        assert ballot.choice == "inner"


def test_a_vote_asked_for_again_is_the_same_vote() -> None:
    first, second = voter(SmallTask()), voter(SmallTask())
    ballot = first.judge(7, GOOD, -GOOD)
    first.judge(8, GOOD, -GOOD)
    assert first.judge(7, GOOD, -GOOD) == ballot == second.judge(7, GOOD, -GOOD)


def test_every_round_is_judged_on_a_new_mini_batch() -> None:
    judge = voter(SmallTask()).judge
    assert len({judge(round, GOOD, -GOOD).inner_loss for round in range(1, 11)}) == 10


class Recording(SmallTask):
    """Remembers the labels of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        self.seen.append(labels)
        return super().losses(outputs, labels)


def test_the_votes_mini_batch_is_not_the_one_that_was_trained_on() -> None:
    task = Recording()
    examples = task.worker_data(0, 4, 1)
    model = FlatModel(initial_model(task, 1), "cpu")
    Training(task, examples, model, batch=32, beta=0.9, seed=1, worker=0).momentum(1, "base", GOOD)
    Voter(task, examples, model, batch=32, seed=1, worker=0).judge(1, GOOD, -GOOD)
    trained, inner, outer = task.seen
    assert torch.equal(inner, outer)
    assert not torch.equal(trained, inner)


def test_a_candidate_that_is_not_finite_loses_against_any_other() -> None:
    broken = np.full_like(GOOD, np.nan)
    judge = voter(SmallTask()).judge
    assert judge(1, broken, -GOOD).choice == "outer"
    assert judge(1, -GOOD, broken).choice == "inner"


def test_voting_leaves_the_momentum_as_it_was() -> None:
    task = SmallTask()
    examples, model = task.worker_data(0, 4, 1), FlatModel(initial_model(task, 1), "cpu")
    training = Training(task, examples, model, batch=8, beta=0.9, seed=1, worker=0)
    alone = Training(task, examples, FlatModel(initial_model(task, 2), "cpu"), batch=8, beta=0.9, seed=1, worker=0)
    shared = Voter(task, examples, model, batch=8, seed=1, worker=0)
    for round in range(1, 4):
        found = training.momentum(round, "base", GOOD).vector
        shared.judge(round, -GOOD, GOOD)
        np.testing.assert_array_equal(found, alone.momentum(round, "base", GOOD).vector)


def test_a_candidate_of_another_task_is_refused() -> None:
    with pytest.raises(OstrakonError, match="27 parameters"):
        voter(SmallTask()).judge(1, GOOD, np.zeros(3, np.float32))
