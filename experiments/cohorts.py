"""Momenta of runs side by side: of runs alike in b and beta they lie in one tensor, and are folded in one operation."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ostrakon.common.algorithm import momentum
from ostrakon.common.criteria import gain, rounds_until_heard
from ostrakon.common.schedule import NONE
from ostrakon.experiments.one_run import Run
from ostrakon.experiments.tensors import index, some, to_device

Present = list[list[bool]]
"""Of each run, which of its n workers have a gradient that is finite."""


class Cohort:
    """Runs alike in b, beta, how momenta are kept, and whether the vote asks second ones.

    Attributes:
        runs: those that go on.
        second: the second momenta of all their workers, (R, n, d), if their criteria ask these.
    """

    def __init__(self, runs: Sequence[Run], d: int, device: torch.device) -> None:
        one = runs[0].experiment
        self.runs = list(runs)
        self._b, self._beta = one.byzantine, one.beta
        r, n = len(runs), one.workers
        self._momenta = torch.zeros(r, self._b + n, d, device=device)  # as `Run.hold` says
        self._shared = torch.zeros(r, d, device=device) if one.momentum == "shared" else None
        asked = runs[0].criterion.asks == "second momentum"
        self.second = torch.zeros(r, n, d, device=device) if asked else None
        self._heard = torch.zeros(r, n, dtype=torch.int64, device=device)
        self._hold()

    def train(self, gradients: Tensor, present: Present) -> None:
        """Line 3: fold the gradients of all workers, (R, n, d), into their momenta.

        Whose gradient is not finite sends nothing in this round; more than f such workers end a run.
        """
        b = self._b
        if self._shared is not None:
            self._fold_in_turn(self._shared, gradients, present)
        else:
            _fold(self._momenta[:, :b], gradients[:, :b], [one[:b] for one in present], self._beta)
            _fold(self._momenta[:, 2 * b :], gradients[:, b:], [one[b:] for one in present], self._beta)
        for run, one in zip(self.runs, present, strict=True):
            run.present = one
            if run.bound < 0:
                run.outcome = "diverged"

    def train_second(self, gradients: Tensor, present: Present) -> None:
        """Fold the gradients of mini-batches drawn for it alone, (R, n, d), into each worker's second momentum."""
        if self.second is not None:
            _fold(self.second, gradients, present, self._beta)
            self._heard += to_device(np.array(present), self._heard.device)

    def lie(self, round: int, *, at_once: bool) -> None:
        """Let the corrupted of all its runs send what they do instead of their momenta.

        Args:
            round: from 1.
            at_once: mount attacks of many runs at once that can be, as is fastest on a GPU.
        """
        alike: dict[str, list[int]] = {}
        for place, run in enumerate(self.runs):
            attack = run.attack(round)
            if run.outcome is not None:
                continue
            if not at_once or not all(run.present) or (attack is not None and not attack.side_by_side):
                run.lie(round, at_once=at_once)
            else:
                alike.setdefault(NONE if attack is None else attack.name, []).append(place)
        for places in alike.values():
            attack, momenta = self.runs[places[0]].attack(round), some(self._momenta, places)
            honest, sent = momenta[:, 2 * self._b :], momenta[:, : self._b]
            if attack is not None and self._b:
                sent = attack.send(honest, sent)
            self._momenta[index(places, momenta.device), self._b : 2 * self._b] = sent

    def gains(self, runs: Sequence[Run], models: Tensor, out: Tensor) -> None:
        """Write what the second momenta of its workers say in a vote, if the criteria ask these.

        Args:
            runs: all that vote, in the order of the cohorts.
            models: their candidates, Inner's and Outer's, (V, 2, d).
            out: (V, n), for what `criteria.gain` makes of each worker's; NaN of one that has seen too little.
        """
        rows = {run: row for row, run in enumerate(runs)}
        voting = [place for place, run in enumerate(self.runs) if run in rows]
        if self.second is not None and voting:
            those = [rows[self.runs[place]] for place in voting]
            asked = some(models, those)
            told = gain(some(self.second, voting), asked[:, :1], asked[:, 1:])
            heard = some(self._heard, voting) >= rounds_until_heard(self._beta)
            out[index(those, out.device)] = torch.where(heard, told, torch.nan)

    def close_ranks(self) -> None:
        """Forget the runs that have ended."""
        for run in self.runs:
            if run.outcome is not None:
                run.end()
        places = [place for place, run in enumerate(self.runs) if run.outcome is None]
        self.runs = [self.runs[place] for place in places]
        self._momenta, self._heard = self._momenta[places], self._heard[places]
        self._shared, self.second = (None if one is None else one[places] for one in (self._shared, self.second))
        self._hold()

    def _hold(self) -> None:
        for run, momenta in zip(self.runs, self._momenta, strict=True):
            run.hold(momenta)

    def _fold_in_turn(self, shared: Tensor, gradients: Tensor, present: Present) -> None:
        """One after another, as the authors' code does: each sends the momentum as it is once its own is folded in."""
        for worker in range(gradients.shape[1]):
            here = [run for run, one in enumerate(present) if one[worker]]
            place = worker if worker < self._b else self._b + worker
            if len(here) == len(present):
                self._momenta[:, place] = momentum(shared, gradients[:, worker], self._beta)
            for run in here if len(here) < len(present) else ():
                self._momenta[run, place] = momentum(shared[run], gradients[run, worker], self._beta)


def cohorts(runs: Sequence[Run], d: int, device: torch.device) -> list[Cohort]:
    """Put runs with models of d parameters together that are alike."""
    alike: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        one, second = run.experiment, run.criterion.asks == "second momentum"
        alike.setdefault((one.byzantine, one.beta, one.momentum, second), []).append(run)
    return [Cohort(those, d, device) for those in alike.values()]


def finite(gradients: Tensor) -> Present:
    """Which gradients, (R, n, d), hold neither NaN nor infinity; one look at the device where all do."""
    sums = gradients.sum(dim=2).isfinite()  # one pass; what overflows in it is looked at again
    found: Present = sums.tolist()
    if all(all(one) for one in found):
        return found
    doubtful = ~sums
    sums[doubtful] = gradients[doubtful].isfinite().all(dim=1)
    again: Present = sums.tolist()
    return again


def _fold(momenta: Tensor, gradients: Tensor, present: Present, beta: float) -> None:
    """Fold gradients, (R, m, d), into the momenta of those whose gradient is finite."""
    if all(all(one) for one in present):
        momentum(momenta, gradients, beta)
        return
    for run, one in enumerate(present):
        for worker, here in enumerate(one):
            if here:
                momentum(momenta[run, worker], gradients[run, worker], beta)
