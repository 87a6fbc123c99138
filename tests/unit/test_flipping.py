"""Label flipping (LF): a worker of a test bed trains on flipped labels while the attack is on, and only then."""

import numpy as np
import pytest
from torch import Tensor

from ostrakon.common.algorithm import Step
from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.wire import Vector
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.settings import Vote
from ostrakon.worker.testbed.bed import Bed
from ostrakon.worker.testbed.settings import WorkerFile
from tests.unit.small_task import SmallTask

D = 27


class Flipped(SmallTask):
    """What a label-flipping worker trains on, as everybody's true labels."""

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        examples = super().worker_data(worker, workers, seed)
        examples.labels.copy_(self.flip(examples.labels))
        return examples


class Unflippable(SmallTask):
    """Its labels flip into none that its losses can use."""

    def flip(self, labels: Tensor) -> Tensor:
        return labels + 3


def settings(attack: str | None, vote: Vote) -> WorkerFile:
    return WorkerFile(id="w00", device="cpu", beta=0.0, attack=attack, vote=vote)


def learner(attack: str | None, task: Task, vote: Vote = "loss") -> LocalLearner:
    told = settings(attack, vote)
    made = LocalLearner(told, task) if attack is None else Bed(told).learner(task)
    made.rehearse()
    made.begin(1, 4)
    return made


def momentum(learner: LocalLearner, round: int) -> Vector:
    """m_t; without memory of the rounds before (beta = 0)."""
    return learner.momentum(round, "a model", np.zeros(D, np.float32)).vector.copy()


def test_labels_are_flipped_in_the_rounds_of_the_attack_and_in_no_other() -> None:
    liar = learner("LF@2,SF@3,LF@4,none@5", SmallTask())
    honest, flipped = learner(None, SmallTask()), learner(None, Flipped())
    for round in range(1, 7):
        lies = round in (2, 4)
        sent, true, false = (momentum(each, round) for each in (liar, honest, flipped))
        np.testing.assert_array_equal(sent, false if lies else true)
        assert not np.array_equal(true, false)


@pytest.mark.parametrize("vote", ["loss", "momentum", "mixed"])
def test_who_flips_labels_votes_on_the_true_ones(vote: Vote) -> None:
    liar, honest = learner("LF", SmallTask(), vote), learner(None, SmallTask(), vote)
    for round in range(1, 9):
        candidates = 0.01 * np.random.default_rng(round).standard_normal((2, D)).astype(np.float32)
        momentum(liar, round)
        for worker in (liar, honest):
            worker.prepare(round, "a model", np.zeros(D, np.float32), Step(1.0))
        assert liar.judge(round, *candidates) == honest.judge(round, *candidates)


def test_flipped_labels_are_rehearsed_by_those_alone_who_train_on_them() -> None:
    with pytest.raises(OstrakonError, match=r"on flipped labels \(LF\)"):
        learner("SF@0,LF@9", Unflippable())
    learner("SF", Unflippable())
    learner(None, Unflippable())
