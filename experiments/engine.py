"""The engine: all workers of all runs of a round in the same passes."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from ostrakon.common.tasks.streams import seed_generators
from ostrakon.experiments.drawing import EVERYBODY, draw
from ostrakon.experiments.experiment import Experiment, Measurement, Result
from ostrakon.experiments.holdings import Holding, gather, hold
from ostrakon.experiments.one_run import Candidates, Run
from ostrakon.experiments.passes import passes
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
    """Runs side by side.

    Attributes:
        runs: in the order of their experiments.
    """

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        """Lets the task make its data and models."""
        first = _check_alike(experiments)
        device = resolve_device(first.device)
        self._every, self._last = first.evaluate_every, first.rounds
        self._batch, self._vote_batch = first.batch, first.vote_batch
        self._holdings: dict[int, Holding] = {}
        thetas: dict[int, Tensor] = {}
        for seed in dict.fromkeys(one.seed for one in experiments):
            made = task(first.task, first.data, seed, first.options)
            flipping = max(_flipping(one) for one in experiments if one.seed == seed)
            self._holdings[seed] = hold(made, first.workers, seed, flipping, device)
            model = FlatModel(initial_model(made, seed), device)
            thetas[seed] = model.theta.clone()
        self._passes = passes(made, model)
        self.runs = [Run(one, thetas[one.seed].clone()) for one in experiments]
        self._gradients = torch.zeros(len(experiments), first.workers, model.parameters, device=device)

    def round(self, round: int) -> None:
        """Compute one round of every run that goes on."""
        runs = [run for run in self.runs if run.outcome is None]
        if not runs:
            return
        for run, gradients in zip(runs, self._learn(runs, TRAINING, round), strict=True):
            run.train(gradients)
        asking = [run for run in runs if run.criterion.asks == "second momentum"]
        for run, gradients in zip(asking, self._learn(asking, SECOND_MOMENTUM, round), strict=True):
            run.train_second(gradients)
        voting: list[tuple[Run, Candidates]] = []
        for run in runs:
            candidates = run.propose(round)
            if run.outcome is None and candidates.unopposed() is None:
                voting.append((run, candidates))
            elif run.outcome is None:
                run.commit(candidates)
        self._vote(voting, round)
        if round % self._every == 0 or round == self._last:
            for run in runs:
                self._measure(run, round)

    def _learn(self, runs: Sequence[Run], purpose: int, round: int) -> Tensor:
        """The gradients of all workers of some runs, (runs, n, d), at the committed models."""
        out = self._gradients[: len(runs)]
        if runs:
            drawn = [draw(self._of(run).sizes, self._batch, run.experiment.seed, purpose, round) for run in runs]
            inputs, labels = gather([self._of(run) for run in runs], drawn, [run.flipping(round) for run in runs])
            self._seed(runs[0], purpose, round)
            weights = torch.cat([torch.from_numpy(one.weights).flatten() for one in drawn]).to(out.device)
            self._passes.gradients(_stacked([run.theta for run in runs]), inputs, labels, weights, out)
        return out

    def _vote(self, voting: Sequence[tuple[Run, Candidates]], round: int) -> None:
        """Let everybody vote who has something to vote on."""
        losing = []
        for run, candidates in voting:
            if candidates.off is not None:
                inner, outer = candidates.off.float().expand(run.experiment.workers, 2)[:, :, None].unbind(1)
                run.vote(round, candidates, inner, outer, [1] * run.experiment.workers)
            else:
                losing.append((run, candidates))
        if not losing:
            return
        holdings = [self._of(run) for run, _ in losing]
        drawn = [
            draw(holding.sizes, self._vote_batch, run.experiment.seed, VOTE, round)
            for (run, _), holding in zip(losing, holdings, strict=True)
        ]
        inputs, labels = gather(holdings, drawn, [0] * len(losing))
        workers = losing[0][0].experiment.workers
        found = []
        for models in zip(*((one.inner, one.outer) for _, one in losing), strict=True):
            self._seed(losing[0][0], VOTE, round)  # the same draws for both candidates
            found.append(self._passes.losses(_stacked(models), inputs, labels, workers))
        of_inner, of_outer = found
        for (run, candidates), one, inner, outer in zip(losing, drawn, of_inner, of_outer, strict=True):
            run.vote(round, candidates, inner, outer, one.counts.tolist())

    def _seed(self, run: Run, purpose: int, round: int) -> None:
        """For models that draw, as dropout does: of runs side by side, all draw as the first would."""
        seed_generators(self._gradients.device, run.experiment.seed, purpose, EVERYBODY, round)

    def _measure(self, run: Run, round: int) -> None:
        holding = self._of(run)
        right = self._passes.answers(run.theta, holding.test.inputs, holding.test.labels)
        pooled = accuracy = int(right.sum()) / len(right)
        if holding.own_tests is not None:
            own = holding.own_tests
            accuracy = own.mean_of_workers(self._passes.answers(run.theta, own.examples.inputs, own.examples.labels))
        run.measured(Measurement(round, accuracy, pooled))

    def _of(self, run: Run) -> Holding:
        return self._holdings[run.experiment.seed]


def _stacked(models: Sequence[Tensor | None]) -> Tensor:
    """(R, d); that of one run is not copied."""
    found = [model for model in models if model is not None]
    return found[0][None] if len(found) == 1 else torch.stack(found)


def _flipping(experiment: Experiment) -> int:
    """How many workers train on flipped labels at some time."""
    return experiment.byzantine if any(attack.flips_labels for attack in experiment.attacks.all()) else 0


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
