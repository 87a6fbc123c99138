"""One run in the engine: Algorithm 3 between the passes that it shares with other runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ostrakon.common.choice import Choice, Outcome
from ostrakon.common.criteria import CRITERIA, Criterion, nearness
from ostrakon.experiments.drawing import EVERYBODY
from ostrakon.experiments.experiment import Experiment, Measurement, Result, Vote
from ostrakon.experiments.yardsticks import IDEAL
from ostrakon.worker.attacks import Attack
from ostrakon.worker.sampling import ATTACK, generator


@dataclass(frozen=True)
class Received:
    """What came to the server, (k, d), the rows of the honest among them, (h, d), and whose rows they all are."""

    rows: Tensor
    honest: Tensor
    positions: Sequence[int]


class Run:
    """What the server and the n workers of one run know from round to round.

    Attributes:
        experiment: its settings.
        theta: the committed model, (d,).
        outcome: how it ended; None as long as it goes on.
        criterion: by which its workers vote.
        present: which workers send something in this round.
    """

    _corrupted: Tensor
    _sent: Tensor
    _honest: Tensor
    _received: Tensor

    def __init__(self, experiment: Experiment, theta: Tensor) -> None:
        self.experiment = experiment
        self.theta = theta
        self.outcome: Outcome | None = None
        self.criterion: Criterion = CRITERIA["loss" if experiment.vote == IDEAL else experiment.vote]
        self.rule, self._attacks, self._defence = experiment.made_rule, experiment.attacks, experiment.defence
        self.present = [True] * experiment.workers
        self._winners: list[Choice] = []
        self._votes: list[Vote] = []
        self._accuracy: list[Measurement] = []

    def hold(self, momenta: Tensor) -> None:
        """Take its place among the momenta of all runs of its cohort.

        Args:
            momenta: (b + n, d): the true ones of the corrupted, what these send, and those of the honest. What the
                server gets is the last n rows, and nothing has to be copied.
        """
        b = self.experiment.byzantine
        self._corrupted, self._sent, self._honest, self._received = (
            momenta[part] for part in (slice(b), slice(b, 2 * b), slice(2 * b, None), slice(b, None))
        )

    def end(self) -> None:
        """Keep nothing but the model, so that the memory of those that go on can be given back."""
        self.theta = self.theta.clone()
        self.hold(self.theta.new_empty(0, len(self.theta)))

    def attack(self, round: int) -> Attack | None:
        """What the corrupted mount."""
        return self._attacks.at(round)

    def flipping(self, round: int) -> int:
        """How many workers, the first ones, train on flipped labels."""
        attack = self.attack(round)
        return self.experiment.byzantine if attack is not None and attack.flips_labels else 0

    @property
    def bound(self) -> int:
        """f of this round: who sends nothing counts as one of those that may lie."""
        return self.experiment.bound - self.present.count(False)

    def lie(self, round: int, *, at_once: bool) -> None:
        """Let the corrupted who are there send what they do instead of their momenta; see `Cohort.lie`."""
        attack = self.attack(round)
        honest, corrupted = self._here()
        if attack is not None and len(corrupted):
            rng = generator(self.experiment.seed, ATTACK, EVERYBODY, round)
            corrupted = attack.send(honest, corrupted, rng=rng, defence=replace(self._defence, at_once=at_once))
        self._sent[: len(corrupted)] = corrupted

    def receive(self) -> Received:
        """What comes to the server: what the corrupted send, and the momenta of the honest."""
        honest, corrupted = self._here()
        here = [worker for worker, present in enumerate(self.present) if present]
        everybody = len(here) == len(self.present)
        rows = self._received if everybody else torch.cat([self._sent[: len(corrupted)], honest])
        return Received(rows, honest, here)

    def _here(self) -> tuple[Tensor, Tensor]:
        """The true momenta of the honest and of the corrupted who send something; nothing is copied where all do."""
        b = len(self._corrupted)
        if all(self.present):
            return self._honest, self._corrupted
        here = [worker for worker, present in enumerate(self.present) if present]
        return self._honest[[w - b for w in here if w >= b]], self._corrupted[[w for w in here if w < b]]

    def nearness(self, inner: Tensor, outer: Tensor, round: int) -> Tensor:
        """Whose own momenta are nearer to Inner's step, (n,): see `criteria.nearness`."""
        own = [one for one in (self._corrupted, self._honest) if len(one)]
        taken = self.experiment.step(round)
        return torch.cat([nearness(m, self.theta, inner, outer, taken) for m in own])

    def commit(self, winner: Choice, votes: Sequence[Choice] = ()) -> None:
        """Line 10: the candidate that needs no vote, or that more voted for, is the next model."""
        self._winners.append(winner)
        self._votes.append(Vote(votes.count("inner"), votes.count("outer")))

    def measured(self, measurement: Measurement) -> None:
        """It is known how good a round's model is."""
        self._accuracy.append(measurement)

    def result(self, seconds: float) -> Result:
        """What came of it."""
        return Result(
            self.experiment,
            "engine",
            self.outcome or "completed",
            tuple(self._winners),
            tuple(self._votes),
            tuple(self._accuracy),
            (),
            self.theta.cpu().numpy(),
            seconds,
        )
