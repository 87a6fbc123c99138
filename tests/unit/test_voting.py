"""The vote: which candidate a worker prefers."""

from collections.abc import Iterable
from math import inf, nan
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from ostrakon.common.algorithm import Step, preference
from ostrakon.common.choice import Choice
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.wire import Vector
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.sampling import SECOND_MOMENTUM
from ostrakon.worker.settings import Vote, WorkerSettings
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
    found = preference(torch.tensor([inner, 1.0]), torch.tensor([outer, 0.0]))
    assert found.tolist() == [choice == "outer", True]


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


def learner(vote: Vote, *, beta: float = 0.5, task: SmallTask | None = None, position: int = 0) -> LocalLearner:
    made = LocalLearner(WorkerSettings(device="cpu", beta=beta, vote=vote), task or SmallTask())
    made.begin(position, 4)
    return made


def second_momentum(rounds: Iterable[int], *, beta: float = 0.5) -> Vector:
    """v_0 of a worker that took part in these rounds, all at GOOD."""
    task = SmallTask()
    training = Training(
        task,
        task.worker_data(0, 4, 1),
        FlatModel(initial_model(task, 1), "cpu"),
        batch=16,
        beta=beta,
        seed=1,
        worker=0,
        purpose=SECOND_MOMENTUM,
    )
    return [training.momentum(round, "base", GOOD).vector.copy() for round in rounds][-1]


class Blind(SmallTask):
    """Its candidates have one loss in a vote, so that no more is known than what a vector says."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = super().losses(outputs, labels)
        return losses if outputs.requires_grad else torch.zeros_like(losses)


ASIDE = np.random.default_rng(5).standard_normal(GOOD.shape).astype(np.float32)


def sides(learner: LocalLearner, rounds: Iterable[int], along: Vector) -> list[Choice]:
    """What is voted in these rounds at GOOD where Inner's step goes along a vector and Outer's against it."""
    found = []
    for round in rounds:
        learner.prepare(round, "base", GOOD, Step(1.0))
        found.append(learner.judge(round, GOOD - along, GOOD + along).choice)
    return found


@pytest.mark.parametrize("vote", ["momentum", "mixed"])
def test_the_second_momentum_decides_once_it_holds_enough_gradients(vote: Vote) -> None:
    beta = 0.75  # four rounds
    along = -second_momentum(range(1, 7), beta=beta)
    found = sides(learner(vote, beta=beta, task=Blind()), range(1, 7), along)
    assert found == ["inner"] * 3 + ["outer"] * 3  # until then the losses do, which are equal
    assert sides(learner(vote, beta=beta, task=Blind()), range(1, 7), -along) == ["inner"] * 6


def test_a_gradient_that_is_not_finite_does_not_count_as_seen() -> None:
    worker = learner("momentum", task=Blind())
    for round in (1, 2):
        worker.prepare(round, f"broken {round}", np.full_like(GOOD, np.nan), Step(1.0))
    assert sides(worker, (3, 4), -second_momentum((3, 4))) == ["inner", "outer"]


def test_a_worker_that_was_away_goes_on_with_the_second_momentum_it_had() -> None:
    along = -second_momentum((1, 2, 9))
    assert sides(learner("momentum", task=Blind()), (1, 2, 9), along)[-1] == "outer"
    worker = learner("momentum")
    sides(worker, (1, 2, 9), along)
    np.testing.assert_array_equal(worker._voter._asked.momentum(9, "base", GOOD).vector, second_momentum((1, 2, 9)))


def test_a_vote_prepared_again_is_the_same_vote() -> None:
    once, twice = learner("momentum"), learner("momentum")
    for round in range(1, 6):
        for worker, times in ((once, 1), (twice, 3)):
            for _ in range(times):
                worker.prepare(round, "base", GOOD, Step(1.0))
        candidates = GOOD + 1e-3 * ASIDE, GOOD - 1e-3 * ASIDE
        assert once.judge(round, *candidates) == twice.judge(round, *candidates) == twice.judge(round, *candidates)


def test_the_second_momentum_is_on_mini_batches_of_its_own_and_changes_nothing_else() -> None:
    worker, plain = learner("mixed"), learner("loss")
    for round in range(1, 4):
        sent = [one.momentum(round, "base", GOOD).vector.copy() for one in (worker, plain)]
        worker.prepare(round, "base", GOOD, Step(1.0))
        ballots = [one.judge(round, GOOD, -GOOD) for one in (worker, plain)]
        np.testing.assert_array_equal(*sent)
        assert ballots[0].inner_loss == ballots[1].inner_loss and ballots[0].outer_loss == ballots[1].outer_loss
        assert not np.array_equal(sent[0], second_momentum(range(1, round + 1)))


def test_a_restarted_worker_lets_the_losses_decide_again() -> None:
    along = -second_momentum((1, 2, 3))
    assert sides(learner("momentum", task=Blind()), (1, 2, 3), along) == ["inner", "outer", "outer"]
    assert sides(learner("momentum", task=Blind()), (3,), along) == ["inner"]


@pytest.mark.parametrize("keep", [1.0, 100.0, -100.0])  # far more than any weight decay takes
def test_proximity_asks_the_momentum_that_was_sent_and_the_step(keep: float) -> None:
    worker, gamma = learner("proximity", task=Blind()), 0.25
    m = worker.momentum(1, "base", GOOD).vector.copy()
    worker.prepare(1, "base", GOOD, Step(gamma, keep))
    far, near = keep * GOOD - gamma * (m + 2 * ASIDE), keep * GOOD - gamma * (m - ASIDE)
    assert worker.judge(1, far, near).choice == "outer"
    assert worker.judge(1, near, far).choice == "inner"
    assert worker.judge(1, near, near.copy()).choice == "inner"


@pytest.mark.parametrize("vote", get_args(Vote))
def test_a_vote_costs_a_gradient_only_where_one_is_asked_for(vote: Vote) -> None:
    task = Recording()
    worker = learner(vote, task=task)
    worker.momentum(1, "base", GOOD)
    trained = len(task.seen)
    worker.prepare(1, "base", GOOD, Step(1.0))
    assert len(task.seen) - trained == (vote in ("momentum", "mixed"))


class Frugal(SmallTask):
    """Computes its losses in the same memory every time."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = torch.zeros(32)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.memory.copy_(super().losses(outputs, labels))


def test_losses_that_a_task_computes_in_one_place_are_those_of_both_candidates() -> None:
    assert voter(Frugal()).judge(1, GOOD, -GOOD) == voter(SmallTask()).judge(1, GOOD, -GOOD)
