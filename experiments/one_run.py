"""One run in the engine: Algorithm 3 between the passes that it shares with other runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ostrakon.common.choice import Choice, Outcome
from ostrakon.common.criteria import CRITERIA, Criterion, nearness
from ostrakon.experiments.drawing import EVERYBODY
from ostrakon.experiments.experiment import Experiment, Measurement, Result, Vote
from ostrakon.experiments.yardsticks import IDEAL
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

    def flipping(self, round: int) -> int:
        """How many workers, the first ones, train on flipped labels."""
        attack = self._attacks.at(round)
        return self.experiment.byzantine if attack is not None and attack.flips_labels else 0

    @property
    def bound(self) -> int:
        """f of this round: who sends nothing counts as one of those that may lie."""
        return self.experiment.bound - self.present.count(False)

    def receive(self, round: int) -> Received:
        """What comes to the server: the momenta of the honest, and what the corrupted send instead of theirs."""
        b = len(self._corrupted)
        here = [worker for worker, present in enumerate(self.present) if present]
        everybody = len(here) == len(self.present)
        honest = self._honest if everybody else self._honest[[worker - b for worker in here if worker >= b]]
        corrupted = self._corrupted if everybody else self._corrupted[[worker for worker in here if worker < b]]
        sent = corrupted
        attack = self._attacks.at(round)
        if attack is not None and len(corrupted):
            rng = generator(self.experiment.seed, ATTACK, EVERYBODY, round)
            sent = attack.send(honest, corrupted, rng=rng, defence=self._defence)
        if not everybody:
            return Received(torch.cat([sent, honest]), honest, here)
        self._sent.copy_(sent)
        return Received(self._received, honest, here)

    def nearness(self, inner: Tensor, outer: Tensor) -> Tensor:
        """Whose own momenta are nearer to Inner's step, (n,): see `criteria.nearness`."""
        own = [one for one in (self._corrupted, self._honest) if len(one)]
        return torch.cat([nearness(m, self.theta, inner, outer, self.experiment.gamma) for m in own])

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
