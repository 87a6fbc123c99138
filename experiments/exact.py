"""The exact mode: one worker after another, with the code, the draws and the arithmetic of a networked run.

What is missing of one is who waits for whom: everybody is there, and in time.
"""

import time
from collections.abc import Callable
from statistics import fmean

from ostrakon.common.algorithm import tally, unopposed
from ostrakon.common.choice import Choice, Outcome
from ostrakon.common.device import resolve_device
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.settings import passed_on
from ostrakon.common.tasks.contract import Task
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from ostrakon.common.wire import Vector
from ostrakon.experiments.experiment import Experiment, Measurement, Result, Vote
from ostrakon.experiments.holdings import test_sets
from ostrakon.experiments.lies import ballots
from ostrakon.experiments.yardsticks import IDEAL
from ostrakon.server.core.aggregator import Aggregator, Candidate
from ostrakon.worker.attacks.mounting import alone, together
from ostrakon.worker.evaluator.measure import measure
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.testbed.flipping import FlippingLearner

_CHOICES: tuple[Choice, Choice] = ("inner", "outer")


def run_exact(experiment: Experiment, progress: Callable[[int], object] = lambda round: None) -> Result:
    """Run one experiment as networked workers would.

    Args:
        progress: is told each round that is over.

    Raises:
        OstrakonError: the device or the task cannot be used, the task's code raises, or the vote or the momentum is one
            that no networked worker has.
    """
    began = time.perf_counter()
    run = _Run(experiment)
    outcome: Outcome = "completed"
    for round in range(1, experiment.rounds + 1):
        if not run.round(round):
            outcome = "diverged"
            break
        if round % experiment.evaluate_every == 0 or round == experiment.rounds:
            run.measure(round)
        progress(round)
    return Result(
        experiment,
        "exact",
        outcome,
        tuple(run.winners),
        tuple(run.votes),
        tuple(run.accuracy),
        tuple(run.digests),
        run.theta,
        time.perf_counter() - began,
    )


class _Run:
    """The server's part, and all workers'."""

    def __init__(self, experiment: Experiment) -> None:
        if experiment.vote == IDEAL:
            raise OstrakonError("the vote `ideal` is no worker's: use the engine, without exact=True")
        if experiment.momentum == "shared":
            raise OstrakonError("networked workers share no momentum: use the engine, without exact=True")
        self.experiment = experiment
        self._attacks, self._defence = experiment.attacks, experiment.defence
        made = task(experiment.task, experiment.data, experiment.seed, experiment.options)
        device = resolve_device(experiment.device)
        self._task, self._model = made, FlatModel(initial_model(made, experiment.seed), device)
        self._tests = test_sets(made, experiment.workers, experiment.seed, device)
        self._learners = [_learner(experiment, made, worker) for worker in range(experiment.workers)]
        self._aggregator = Aggregator(experiment.made_rule, experiment.workers, self._model.parameters, device)
        self.theta: Vector = self._model.theta.cpu().numpy().copy()
        self._base = digest(self.theta)
        self.winners: list[Choice] = []
        self.votes: list[Vote] = []
        self.accuracy: list[Measurement] = []
        self.digests: list[str] = []

    def round(self, round: int) -> bool:
        """Commit one round; False if the run diverges."""
        experiment = self.experiment
        sent = self._sent(round)
        missing = experiment.workers - len(sent)
        if missing > experiment.bound:
            return False
        for worker, vector in sent.items():
            self._aggregator.row(worker)[:] = vector
        found = self._aggregator.candidates(self.theta, list(sent), experiment.bound - missing, experiment.step(round))
        candidates: dict[Choice, Candidate] = {
            choice: one for choice, one in zip(_CHOICES, found, strict=False) if one is not None
        }
        if not candidates:
            return False
        votes: list[Choice] = []
        winner = unopposed(*(candidates[one].digest if one in candidates else None for one in _CHOICES))
        if winner is None:
            votes = self._vote(round, candidates["inner"].theta, candidates["outer"].theta)
            winner = tally(votes, experiment.workers).winner
        self.theta, self._base = candidates[winner].theta, candidates[winner].digest
        self.winners.append(winner)
        self.votes.append(Vote(votes.count("inner"), votes.count("outer")))
        self.digests.append(self._base)
        return True

    def measure(self, round: int) -> None:
        """Measure the committed model as the evaluator does, and on the workers' own test sets."""
        own = [] if self._tests.own is None else self._tests.own.of_workers()
        pooled, *of_workers = (
            measure(self._task, self._model, self.theta, one, seed=self.experiment.seed).accuracy
            for one in (self._tests.pooled, *own)
        )
        self.accuracy.append(Measurement(round, fmean(of_workers or [pooled]), pooled))

    def _sent(self, round: int) -> dict[int, Vector]:
        """What each worker sends, in roster order; those whose gradient is not finite send nothing."""
        momenta = [learner.momentum(round, self._base, self.theta) for learner in self._learners]
        true = {worker: momentum.vector for worker, momentum in enumerate(momenta) if momentum.finite}
        attack, b, seed = self._attacks.at(round), self.experiment.byzantine, self.experiment.seed
        corrupted = [worker for worker in true if worker < b]
        if attack is None or not corrupted:
            return true
        if attack.knows == "alone":
            lies = [alone(attack, true[worker], seed=seed, worker=worker, round=round) for worker in corrupted]
        else:
            honest = [vector for worker, vector in true.items() if worker >= b]
            those = [true[worker] for worker in corrupted]
            lies = together(attack, honest, those, seed=seed, round=round, defence=self._defence)
        return true | dict(zip(corrupted, lies, strict=True))

    def _vote(self, round: int, inner: Vector, outer: Vector) -> list[Choice]:
        for learner in self._learners:
            learner.prepare(round, self._base, self.theta, self.experiment.step(round))
        judged = [learner.judge(round, inner, outer) for learner in self._learners]
        return ballots(self.experiment, round, [one.choice for one in judged])


def _learner(experiment: Experiment, made: Task, worker: int) -> LocalLearner:
    """One worker's own computing."""
    settings = passed_on(WorkerSettings, experiment)
    flips = worker < experiment.byzantine and any(attack.flips_labels for attack in experiment.attacks.all())
    learner = FlippingLearner(settings, made, experiment.attacks) if flips else LocalLearner(settings, made)
    learner.begin(worker, experiment.workers)
    return learner
