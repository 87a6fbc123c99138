"""The engine: all workers of all runs of a round in the same passes."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ostrakon.common.algorithm import clip, tally
from ostrakon.common.choice import Choice
from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Task
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from ostrakon.common.tasks.rehearsal import rehearse
from ostrakon.common.tasks.streams import seed_generators
from ostrakon.experiments.cohorts import Cohort, Present, cohorts, finite
from ostrakon.experiments.drawing import EVERYBODY
from ostrakon.experiments.experiment import Experiment, Measurement, Result
from ostrakon.experiments.holdings import Holding, Pool, hold
from ostrakon.experiments.lies import ballots
from ostrakon.experiments.one_run import Received, Run
from ostrakon.experiments.passes import Vmapped, passes
from ostrakon.experiments.preferences import preferences
from ostrakon.experiments.proposals import Candidates, Submissions, propose
from ostrakon.experiments.tensors import index, some, tf32, to_device
from ostrakon.experiments.yardsticks import IDEAL
from ostrakon.worker.sampling import SECOND_MOMENTUM, TRAINING, VOTE

SHARED = ("task", "data", "options", "workers", "batch", "vote_batch", "rounds", "evaluate_every", "device")


def run_together(
    experiments: Sequence[Experiment], progress: Callable[[int], object] = lambda round: None
) -> list[Result]:
    """Run experiments side by side; each comes out as it would alone, but for the rounding of sums.

    Args:
        experiments: alike in task, data, workers, batches, rounds, evaluate_every and device.
        progress: is told each round that is over.

    Raises:
        OstrakonError: they are not alike, the device or the task cannot be used, or the task's code raises.
    """
    began = time.perf_counter()
    engine = Engine(experiments)
    for round in range(1, experiments[0].rounds + 1):
        engine.round(round)
        progress(round)
    return [run.result(time.perf_counter() - began) for run in engine.runs]


class Engine:
    """Runs side by side. What they share is one tensor for all, so that a GPU is not told the same for each of them.

    Attributes:
        runs: in the order of their experiments.
        cohorts: those that go on, by what is folded together.
    """

    def __init__(self, experiments: Sequence[Experiment], *, at_once: bool | None = None) -> None:
        """Lets the task make its data and models.

        Args:
            experiments: as of `run_together`.
            at_once: compute attacks and rules of many runs at once that can be; if not given, on a GPU alone. On a CPU
                that takes longer than one by one.
        """
        first = _check_alike(experiments)
        device = resolve_device(first.device)
        self._at_once = device.type == "cuda" if at_once is None else at_once
        self._every, self._last = first.evaluate_every, first.rounds
        self._workers, self._batch, self._vote_batch = first.workers, first.batch, first.vote_batch
        holdings: dict[int, Holding] = {}
        thetas: dict[int, Tensor] = {}
        for seed in dict.fromkeys(one.seed for one in experiments):
            made = task(first.task, first.data, seed, first.options)
            _check_drawn_at_once(made)
            flipping = max(_flipping(one) for one in experiments if one.seed == seed)
            holdings[seed] = hold(made, first.workers, seed, flipping, device)
            model = FlatModel(initial_model(made, seed), device)
            thetas[seed] = model.theta.clone()
        self._passes = passes(made, model)
        if isinstance(self._passes, Vmapped):  # code of a user's own, whose faults should be named before anything runs
            held = holdings[seed]
            rehearse(
                made,
                model,
                seed=seed,
                training=held.training.of_workers()[0],
                test=held.tests.pooled,
                batch=first.batch,
                vote_batch=first.vote_batch,
            )
        self._pool, self._tests = Pool(holdings), {seed: one.tests for seed, one in holdings.items()}
        self.runs = [Run(one, thetas[one.seed]) for one in experiments]
        self.cohorts = cohorts(self.runs, model.parameters, device)
        self._line_up(torch.stack([run.theta for cohort in self.cohorts for run in cohort.runs]))
        self._gradients = torch.zeros(len(self._going), first.workers, model.parameters, device=device)

    def round(self, round: int) -> None:
        """Compute one round of every run that goes on."""
        self.train(round)
        candidates = self.propose(self.receive(round), round)
        self.vote(candidates, round)
        if round % self._every == 0 or round == self._last:
            self.measure(round)

    def train(self, round: int) -> None:
        """Line 3: gradients on new mini-batches, and momenta."""
        if any(run.outcome is not None for run in self._going):
            self._close_ranks()
        gradients = self._learn(self._going, TRAINING, round)
        for cohort, its, present in _of_cohorts(self.cohorts, gradients):
            cohort.train(its, present)
        asking = [cohort for cohort in self.cohorts if cohort.second is not None]
        gradients = self._learn([run for cohort in asking for run in cohort.runs], SECOND_MOMENTUM, round)
        for cohort, its, present in _of_cohorts(asking, gradients):
            cohort.train_second(its, present)

    def receive(self, round: int) -> list[tuple[Run, Received]]:
        """What comes to the server, in the runs that go on."""
        for cohort in self.cohorts:
            cohort.lie(round, at_once=self._at_once)
        return [(run, run.receive()) for run in self._going if run.outcome is None]

    def propose(self, submissions: Submissions, round: int) -> Candidates:
        """Lines 4 and 5: the models to vote on."""
        return propose(submissions, self._thetas_of([run for run, _ in submissions]), round, at_once=self._at_once)

    def vote(self, candidates: Candidates, round: int) -> None:
        """Lines 6 to 10: where candidates differ let everybody vote on new mini-batches, and commit the winners."""
        preferred = self._preferences(candidates, round)
        committed, rows, places = [], [], []
        for row, run, choice in candidates.standing():
            votes = [] if choice else ballots(run.experiment, round, preferred[run])
            winner = choice or tally(votes, self._workers).winner
            run.commit(winner, votes)
            committed.append(run)
            rows.append(row)
            places.append(int(winner == "outer"))
        device = self._thetas.device
        won = candidates.models[index(rows, device), index(places, device)]
        self._thetas[index(self._places(committed), device)] = won

    def measure(self, round: int) -> None:
        """Measure the committed models of the runs that go on."""
        for run in self.runs:
            if run.outcome is None:
                tests = self._tests[run.experiment.seed]
                right = self._passes.answers(run.theta, tests.pooled.inputs, tests.pooled.labels)
                pooled = accuracy = int(right.sum()) / len(right)
                if tests.own is not None:
                    own = tests.own.examples
                    accuracy = tests.own.mean_of_workers(self._passes.answers(run.theta, own.inputs, own.labels))
                run.measured(Measurement(round, accuracy, pooled))

    def _preferences(self, candidates: Candidates, round: int) -> dict[Run, list[Choice]]:
        """Line 8: what each worker would vote if it were honest, in the runs that have something to vote on."""
        voting = {run: row for row, run, choice in candidates.standing() if choice is None}
        if not voting:
            return {}
        runs, rows, n = list(voting), list(voting.values()), self._workers
        models = some(candidates.models, rows)
        # To the ideal vote, how far a candidate is off is its loss.
        losses = some(candidates.off, rows).T[:, :, None, None].repeat(1, 1, n, self._vote_batch)
        counts = np.ones((len(runs), n), dtype=np.int64)
        losing = [place for place, run in enumerate(runs) if run.experiment.vote != IDEAL]
        if losing:
            those = index(losing, models.device)
            seeds = [runs[place].experiment.seed for place in losing]
            drawn = self._pool.draw(seeds, self._vote_batch, VOTE, round)
            examples = self._pool.gather(seeds, drawn, [0] * len(losing))
            for choice in (0, 1):
                self._seed(seeds[0], VOTE, round)  # the same draws for both candidates
                with tf32():
                    losses[choice, those] = self._passes.losses(some(models[:, choice], losing), *examples, n)
            counts[losing] = drawn.counts
        gains, nearness = models.new_full((2, len(runs), n), torch.nan, dtype=torch.float64)
        for cohort in self.cohorts:
            cohort.gains(runs, models, gains)
        for place, run in enumerate(runs):
            if run.criterion.asks == "own momentum":
                inner, outer = models[place]
                nearness[place] = run.nearness(inner, outer, round)
        found = preferences([run.criterion for run in runs], losses.unbind(), gains, nearness, counts).tolist()
        return {run: ["outer" if outer else "inner" for outer in one] for run, one in zip(runs, found, strict=True)}

    def _learn(self, runs: Sequence[Run], purpose: int, round: int) -> Tensor:
        """The gradients of all workers of some runs, (runs, n, d), at the committed models."""
        out = self._gradients[: len(runs)]
        if runs:
            seeds = [run.experiment.seed for run in runs]
            drawn = self._pool.draw(seeds, self._batch, purpose, round)
            # What a worker asks for its vote is true, whatever it sends.
            lying = [run.flipping(round) if purpose == TRAINING else 0 for run in runs]
            inputs, labels = self._pool.gather(seeds, drawn, lying)
            self._seed(seeds[0], purpose, round)
            weights = to_device(drawn.weights.ravel(), out.device)
            self._passes.gradients(self._thetas_of(runs), inputs, labels, weights, out)
            for gradients, run in zip(out, runs, strict=True):
                if run.experiment.clip is not None:
                    clip(gradients, run.experiment.clip)
        return out

    def _seed(self, seed: int, purpose: int, round: int) -> None:
        """For models that draw, as dropout does: of runs side by side, all draw as the first would."""
        seed_generators(self._gradients.device, seed, purpose, EVERYBODY, round)

    def _line_up(self, thetas: Tensor) -> None:
        """Let each run that goes on, in the order of the cohorts, have its place in the tensors of all."""
        self._going = [run for cohort in self.cohorts for run in cohort.runs]
        self._thetas = thetas
        for run, theta in zip(self._going, thetas, strict=True):
            run.theta = theta

    def _close_ranks(self) -> None:
        """Forget the runs that have ended."""
        thetas = self._thetas_of([run for run in self._going if run.outcome is None])
        for cohort in self.cohorts:
            cohort.close_ranks()
        self.cohorts = [cohort for cohort in self.cohorts if cohort.runs]
        self._line_up(thetas)

    def _places(self, runs: Sequence[Run]) -> list[int]:
        places = {run: place for place, run in enumerate(self._going)}
        return [places[run] for run in runs]

    def _thetas_of(self, runs: Sequence[Run]) -> Tensor:
        return some(self._thetas, self._places(runs))


def _of_cohorts(those: Sequence[Cohort], gradients: Tensor) -> Iterator[tuple[Cohort, Tensor, Present]]:
    """Each cohort with the gradients of its runs, and which of them are finite."""
    present, first = finite(gradients), 0
    for cohort in those:
        its = slice(first, first + len(cohort.runs))
        yield cohort, gradients[its], present[its]
        first = its.stop


def _flipping(experiment: Experiment) -> int:
    """How many workers train on flipped labels at some time."""
    return experiment.byzantine if any(attack.flips_labels for attack in experiment.attacks.all()) else 0


def _check_drawn_at_once(made: Task) -> None:
    """Refuse a task whose batches are not just drawn from its examples.

    Raises:
        OstrakonError: it has a method for that.
    """
    for name in ("augment", "batches"):
        if getattr(type(made), name) is not getattr(Task, name):
            raise OstrakonError(
                f"task {type(made).__name__} defines {name}, which the engine does not call: run it worker by worker, "
                "with exact=True"
            )


def _check_alike(experiments: Sequence[Experiment]) -> Experiment:
    """The first one.

    Raises:
        OstrakonError: there is none, or another differs from it in what runs side by side share.
    """
    if not experiments:
        raise OstrakonError("no experiments were given: give at least one")
    first = experiments[0]
    for other in experiments[1:]:
        for name in SHARED:
            here, there = getattr(first, name), getattr(other, name)
            if here != there:
                raise OstrakonError(
                    f"experiments side by side share {', '.join(SHARED)}, but {name} is {here!r} and {there!r}: run "
                    "them one after another"
                )
    return first
