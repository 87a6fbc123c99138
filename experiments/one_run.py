"""One run in the engine: Algorithm 3 between the passes that it shares with other runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ostrakon.common.algorithm import momentum, step, tally, unopposed
from ostrakon.common.choice import Choice, Outcome
from ostrakon.common.criteria import CRITERIA, Criterion, Evidence, gain, nearness, rounds_until_heard
from ostrakon.experiments.drawing import EVERYBODY
from ostrakon.experiments.experiment import Experiment, Measurement, Result, Vote
from ostrakon.experiments.lies import ballots
from ostrakon.experiments.yardsticks import IDEAL, distances_to_the_honest
from ostrakon.worker.sampling import ATTACK, generator


@dataclass(frozen=True)
class Received:
    """What came to the server, (k, d), the rows of the honest among them, (h, d), and whose rows they all are."""

    rows: Tensor
    honest: Tensor
    positions: Sequence[int]


@dataclass(frozen=True)
class Candidates:
    """The models of a round that are finite, (d,) each, and of the ideal vote how far their aggregates were off."""

    inner: Tensor | None
    outer: Tensor | None
    off: Tensor | None = None

    def unopposed(self) -> Choice | None:
        """The choice that needs no vote, if there is one."""
        same = self.inner is not None and self.outer is not None and torch.equal(self.inner, self.outer)
        return unopposed(
            None if self.inner is None else "a model",
            None if self.outer is None else "a model" if same else "another",
        )


class Run:
    """What the server and the n workers of one run know from round to round.

    Attributes:
        experiment: its settings.
        theta: the committed model, (d,).
        outcome: how it ended; None as long as it goes on.
    """

    def __init__(self, experiment: Experiment, theta: Tensor) -> None:
        self.experiment = experiment
        self.theta = theta
        self.outcome: Outcome | None = None
        self.criterion: Criterion = CRITERIA["loss" if experiment.vote == IDEAL else experiment.vote]
        self._rule, self._attacks, self._defence = experiment.made_rule, experiment.attacks, experiment.defence
        n, b = experiment.workers, experiment.byzantine
        # The true momenta of the corrupted, what these send, and the momenta of the honest: what the server gets is the
        # last n rows, and nothing has to be copied.
        rows = theta.new_zeros(b + n, len(theta))
        self._corrupted, self._sent, self._honest, self._received = rows[:b], rows[b : 2 * b], rows[2 * b :], rows[b:]
        self._second = theta.new_zeros(n, len(theta)) if self.criterion.asks == "second momentum" else None
        self._heard = torch.zeros(n, dtype=torch.int64, device=theta.device)
        self._shared = theta.new_zeros(len(theta)) if experiment.momentum == "shared" else None
        self._present = [True] * n
        self._winners: list[Choice] = []
        self._votes: list[Vote] = []
        self._accuracy: list[Measurement] = []

    def flipping(self, round: int) -> int:
        """How many workers, the first ones, train on flipped labels."""
        attack = self._attacks.at(round)
        return self.experiment.byzantine if attack is not None and attack.flips_labels else 0

    def train(self, gradients: Tensor) -> None:
        """Line 3: fold the gradients of all workers, (n, d), into their momenta.

        Whose gradient is not finite sends nothing in this round; more than f such workers end the run.
        """
        self._present = _finite(gradients)
        b, beta = len(self._corrupted), self.experiment.beta
        if self._shared is not None:
            self._fold_in_turn(self._shared, gradients)
        else:
            _fold(self._corrupted, gradients[:b], self._present[:b], beta)
            _fold(self._honest, gradients[b:], self._present[b:], beta)
        if self._missing > self.experiment.bound:
            self.outcome = "diverged"

    def train_second(self, gradients: Tensor) -> None:
        """Fold the gradients of mini-batches drawn for it alone, (n, d), into each worker's second momentum."""
        if self._second is not None:
            finite = _finite(gradients)
            _fold(self._second, gradients, finite, self.experiment.beta)
            self._heard += torch.tensor(finite, device=self._heard.device)

    def receive(self, round: int) -> Received:
        """What comes to the server: the momenta of the honest, and what the corrupted send instead of theirs."""
        b = len(self._corrupted)
        here = [worker for worker, present in enumerate(self._present) if present]
        everybody = len(here) == len(self._present)
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

    def propose(self, received: Received) -> Candidates:
        """Lines 4 and 5: Inner and Outer of what came, and the models to vote on."""
        experiment = self.experiment
        aggregates = self._rule.aggregate(received.rows, experiment.bound - self._missing, received.positions)
        off = None
        if len(aggregates) == 2 and experiment.vote == IDEAL:
            off = distances_to_the_honest(received.honest, torch.stack([one.vector for one in aggregates]))
        models = [step(self.theta, one.vector, experiment.gamma) for one in aggregates]
        finite = [model if bool(model.isfinite().all()) else None for model in models]
        if all(model is None for model in finite):
            self.outcome = "diverged"
        return Candidates(finite[0], finite[1] if len(finite) == 2 else None, off)

    def vote(
        self, round: int, candidates: Candidates, inner_losses: Tensor, outer_losses: Tensor, counts: Sequence[int]
    ) -> None:
        """Lines 8 to 10: let everybody vote, and commit the winner.

        Args:
            inner_losses, outer_losses: (n, m), of each worker's mini-batch at either candidate.
            counts: of each worker, how many of these count: the first ones.
        """
        of_gain, of_nearness = self._asked(candidates)
        preferred: list[Choice] = ["inner"] * len(counts)
        for count in set(counts):
            those = [worker for worker, one in enumerate(counts) if one == count]
            evidence = Evidence(
                inner_losses[those, :count], outer_losses[those, :count], of_gain[those], of_nearness[those]
            )
            for worker, outer in zip(those, self.criterion.prefers_outer(evidence).tolist(), strict=True):
                preferred[worker] = "outer" if outer else "inner"
        self.commit(candidates, ballots(self.experiment, round, preferred))

    def commit(self, candidates: Candidates, votes: Sequence[Choice] = ()) -> None:
        """Line 10: the candidate that needs no vote, or that more voted for, is the next model."""
        winner = candidates.unopposed() or tally(votes, self.experiment.workers).winner
        model = candidates.inner if winner == "inner" else candidates.outer
        if model is not None:
            self.theta = model
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

    @property
    def _missing(self) -> int:
        """How many workers send nothing in this round."""
        return self._present.count(False)

    def _fold_in_turn(self, shared: Tensor, gradients: Tensor) -> None:
        """One after another, as the authors' code does: each sends the momentum as it is once its own is folded in."""
        for own, gradient, present in zip((*self._corrupted, *self._honest), gradients, self._present, strict=True):
            if present:
                momentum(shared, gradient, self.experiment.beta)
                own.copy_(shared)

    def _asked(self, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Of each worker, what the vectors say that its criterion asks: gain and nearness, NaN where none is asked."""
        nothing = self.theta.new_full((self.experiment.workers,), torch.nan)
        inner, outer = candidates.inner, candidates.outer
        if inner is None or outer is None:
            return nothing, nothing
        if self._second is not None:
            heard = self._heard >= rounds_until_heard(self.experiment.beta)
            return torch.where(heard, gain(self._second, inner, outer), torch.nan), nothing
        if self.criterion.asks == "own momentum":
            own = (self._corrupted, self._honest)
            near = [nearness(m, self.theta, inner, outer, self.experiment.gamma) for m in own if len(m)]
            return nothing, torch.cat(near)
        return nothing, nothing


def _fold(momenta: Tensor, gradients: Tensor, present: Sequence[bool], beta: float) -> None:
    """Fold gradients, (m, d), into the momenta of those whose gradient is finite."""
    if all(present):
        momentum(momenta, gradients, beta)
        return
    for own, gradient, finite in zip(momenta, gradients, present, strict=True):
        if finite:
            momentum(own, gradient, beta)


def _finite(gradients: Tensor) -> list[bool]:
    """Which of some gradients, (n, d), hold neither NaN nor infinity."""
    sums: list[bool] = gradients.sum(dim=1).isfinite().tolist()  # one pass; what overflows in it is looked at again
    return [finite or bool(row.isfinite().all()) for finite, row in zip(sums, gradients, strict=True)]
