"""What an experiment is, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ostrakon.common.aggregation import Rule
from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Choice, Outcome
from ostrakon.common.criteria import CRITERIA
from ostrakon.common.errors import OstrakonError
from ostrakon.common.learning_rate import check_decay, step_of
from ostrakon.common.names import unknown
from ostrakon.common.schedule import Schedule
from ostrakon.common.setting_types import FewerWorkers, Norm, Options, Settings, Workers
from ostrakon.common.settings import Machine, build, same_as
from ostrakon.experiments.yardsticks import IDEAL, rule_of
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.attacks import Attack, Defence, attack_schedule
from ostrakon.worker.settings import EvaluatorSettings, WorkerSettings
from ostrakon.worker.testbed.settings import VOTES, ByzantineVote, says_nothing


class Experiment(Settings):
    """One run, as `ostrakon up` would make it with one server and n workers; the defaults are the paper's."""

    task: str = same_as(WorkerSettings, "task")
    data: Path | None = same_as(WorkerSettings, "data")
    options: Options | None = same_as(WorkerSettings, "options")
    workers: Workers = Field(35, description="n")
    byzantine: FewerWorkers = Field(14, description="how many of them lie (the first ones)")
    f: int | None = Field(None, ge=0, description="bound given to the rule; `byzantine` if not given")
    attack: str = Field("SF", description="what they send: docs/attacks.md")
    byzantine_vote: ByzantineVote = Field("larger-loss", description=f"what they vote: {VOTES}")
    rule: str = same_as(
        ServerSettings, "rule", default="Mean2P", description="docs/rules.md, or Honest: the average of the honest"
    )
    vote: str = Field("loss", description="criterion of the vote, or ideal: nearer to the average of the honest")
    batch: int = same_as(WorkerSettings, "batch", default=3)
    vote_batch: int = same_as(WorkerSettings, "vote_batch", default=3)
    gamma: float | str = same_as(ServerSettings, "gamma", default=0.1)
    weight_decay: float = same_as(ServerSettings, "weight_decay")
    beta: float = same_as(WorkerSettings, "beta", default=0.99)
    clip: Norm | None = same_as(WorkerSettings, "clip")
    momentum: Literal["own", "shared"] = Field(
        "own", description="each worker's own, or shared: one that all fold into in turn, as in the authors' code"
    )
    rounds: int = same_as(ServerSettings, "rounds", default=1500)
    seed: int = same_as(WorkerSettings, "seed")
    evaluate_every: int = same_as(
        EvaluatorSettings, "evaluate_every", default=50, description="rounds between two measurements"
    )
    device: str = same_as(Machine, "device", default="cpu")

    @model_validator(mode="before")
    @classmethod
    def _who_does_not_attack_votes_honestly(cls, values: Any) -> Any:
        if isinstance(values, dict) and "attack" in values and says_nothing(values["attack"]):
            return {"byzantine_vote": "honest", **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_decay(self.gamma, self.weight_decay)
        try:
            if self.vote not in (*CRITERIA, IDEAL):
                raise unknown("criterion of the vote", self.vote, (*CRITERIA, IDEAL))
            if self.byzantine >= self.workers:
                raise OstrakonError(f"{self.byzantine} of {self.workers} workers lie: at least one has to be honest")
            self.made_rule.check_run(self.workers, self.bound, asynchronous=False)
            if self.byzantine:
                for attack in self.attacks.all():
                    attack.rehearse(self.workers - self.byzantine, self.byzantine, self.defence)
        except OstrakonError as refusal:
            raise ValueError(str(refusal)) from None
        return self

    @property
    def bound(self) -> int:
        """f."""
        return self.byzantine if self.f is None else self.f

    def step(self, round: int) -> Step:
        """How far a round goes, from 1 on."""
        return step_of(self.gamma, self.weight_decay, round)

    @property
    def made_rule(self) -> Rule:
        """The rule."""
        return rule_of(self.rule, self.byzantine)

    @property
    def attacks(self) -> Schedule[Attack]:
        """What the corrupted send over the rounds."""
        return attack_schedule(self.attack)

    @property
    def defence(self) -> Defence:
        """What attacks may know of the server."""
        return Defence(self.made_rule, self.workers, self.bound)


def experiment(**settings: Any) -> Experiment:
    """An experiment of these settings.

    Raises:
        OstrakonError: one sentence for the first setting that cannot be used.
    """
    return build(Experiment, settings, source="experiment")


@dataclass(frozen=True)
class Measurement:
    """How good the model of a round is.

    Attributes:
        round: from 1.
        accuracy: the paper's figure, 0 to 1: the mean over all workers of the accuracy on each one's own test set.
        pooled: the accuracy on the common test set, as an evaluator measures it; the same where no worker has another.
    """

    round: int
    accuracy: float
    pooled: float


@dataclass(frozen=True)
class Vote:
    """How many voted for either candidate; nobody where there was nothing to vote on."""

    inner: int
    outer: int


@dataclass(frozen=True)
class Result:
    """What came of an experiment.

    Attributes:
        experiment: its settings.
        mode: which of the two ways it was computed.
        outcome: whether all rounds were committed.
        winners: of each committed round.
        votes: of each committed round.
        accuracy: of the models of every `evaluate_every`-th round and of the last one.
        digests: of each committed model, in the exact mode.
        theta: the last committed model, (d,).
        seconds: how long it took; of experiments that ran side by side, how long all took.
    """

    experiment: Experiment
    mode: Literal["engine", "exact"]
    outcome: Outcome
    winners: tuple[Choice, ...]
    votes: tuple[Vote, ...]
    accuracy: tuple[Measurement, ...]
    digests: tuple[str, ...]
    theta: NDArray[np.float32]
    seconds: float
