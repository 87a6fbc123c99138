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
from ostrakon.common.tasks.rehearsal import rehearse
from ostrakon.common.tasks.streams import seed_generators
from ostrakon.experiments.drawing import EVERYBODY, draw
from ostrakon.experiments.experiment import Experiment, Measurement, Result
from ostrakon.experiments.holdings import Holding, gather, hold
from ostrakon.experiments.one_run import Candidates, Received, Run
from ostrakon.experiments.passes import Vmapped, passes
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
        if isinstance(self._passes, Vmapped):  # code of a user's own, whose faults should be named before anything runs
            held = self._holdings[seed]
            rehearse(
                made,
                model,
                seed=seed,
                training=held.of_worker(0),
                test=held.tests.pooled,
                batch=first.batch,
                vote_batch=first.vote_batch,
            )
        self.runs = [Run(one, thetas[one.seed].clone()) for one in experiments]
        self._gradients = torch.zeros(len(experiments), first.workers, model.parameters, device=device)

    def round(self, round: int) -> None:
        """Compute one round of every run that goes on."""
        runs = [run for run in self.runs if run.outcome is None]
        runs = self.train(runs, round)
        received = [run.receive(round) for run in runs]
        self.vote(self.propose(runs, received), round)
        if round % self._every == 0 or round == self._last:
            self.measure(round)

    def train(self, runs: Sequence[Run], round: int) -> list[Run]:
        """Line 3: gradients on new mini-batches, and momenta. Returns the runs that go on."""
        for run, gradients in zip(runs, self._learn(runs, TRAINING, round), strict=True):
            run.train(gradients)
        asking = [run for run in runs if run.criterion.asks == "second momentum"]
        for run, gradients in zip(asking, self._learn(asking, SECOND_MOMENTUM, round), strict=True):
            run.train_second(gradients)
        return [run for run in runs if run.outcome is None]

    def propose(self, runs: Sequence[Run], received: Sequence[Received]) -> list[tuple[Run, Candidates]]:
        """Lines 4 and 5; what needs no vote is committed. Returns the runs that have something to vote on."""
        voting = []
        for run, rows in zip(runs, received, strict=True):
            candidates = run.propose(rows)
            if run.outcome is None and candidates.unopposed() is None:
                voting.append((run, candidates))
            elif run.outcome is None:
                run.commit(candidates)
        return voting

    def vote(self, voting: Sequence[tuple[Run, Candidates]], round: int) -> None:
        """Lines 6 to 10: let everybody vote on new mini-batches, and commit the winners."""
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
        for (run, candidates), one, inner, outer in zip(losing, drawn, *found, strict=True):
            run.vote(round, candidates, inner, outer, one.counts.tolist())

    def measure(self, round: int) -> None:
        """Measure the committed models of the runs that go on."""
        for run in self.runs:
            if run.outcome is None:
                tests = self._of(run).tests
                right = self._passes.answers(run.theta, tests.pooled.inputs, tests.pooled.labels)
                pooled = accuracy = int(right.sum()) / len(right)
                if tests.own is not None:
                    own = tests.own.examples
                    accuracy = tests.own.mean_of_workers(self._passes.answers(run.theta, own.inputs, own.labels))
                run.measured(Measurement(round, accuracy, pooled))

    def _learn(self, runs: Sequence[Run], purpose: int, round: int) -> Tensor:
        """The gradients of all workers of some runs, (runs, n, d), at the committed models."""
        out = self._gradients[: len(runs)]
        if runs:
            drawn = [draw(self._of(run).sizes, self._batch, run.experiment.seed, purpose, round) for run in runs]
            # What a worker asks for its vote is true, whatever it sends.
            lying = [run.flipping(round) if purpose == TRAINING else 0 for run in runs]
            inputs, labels = gather([self._of(run) for run in runs], drawn, lying)
            self._seed(runs[0], purpose, round)
            weights = torch.cat([torch.from_numpy(one.weights).flatten() for one in drawn]).to(out.device)
            self._passes.gradients(_stacked([run.theta for run in runs]), inputs, labels, weights, out)
        return out

    def _seed(self, run: Run, purpose: int, round: int) -> None:
        """For models that draw, as dropout does: of runs side by side, all draw as the first would."""
        seed_generators(self._gradients.device, run.experiment.seed, purpose, EVERYBODY, round)

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
