"""The experiments' engine: rounds a second, where the time of a round goes, and what limits it.

The passes are counted in floating-point operations and set beside a plain product of large matrices on the same machine
in the same run. Times are the shortest of all rounds: what a busy neighbour takes is not the engine's.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ostrakon.experiments.engine import Engine
from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.one_run import Received, Run
from ostrakon.experiments.proposals import Candidates

PHASES = ("gradients", "attack", "rule", "vote")

_WARM = 3  # rounds that are not timed
_SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices of the plain product


@dataclass(frozen=True)
class Phase:
    """One phase of a round of all runs: milliseconds, also of the CPU, and floating-point operations of its passes."""

    name: str
    milliseconds: float
    cpu_milliseconds: float
    operations: int

    @property
    def operations_per_second(self) -> float:
        """0 where no passes are made."""
        return self.operations / (self.milliseconds / 1e3)


@dataclass(frozen=True)
class EngineReport:
    """What was measured; `product` is the speed of a plain product, in operations a second."""

    runs: int
    phases: tuple[Phase, ...]
    product: float

    @property
    def rounds_per_second(self) -> float:
        """Summed over the runs that go side by side."""
        return self.runs / (sum(phase.milliseconds for phase in self.phases) / 1e3)


def measure_engine(experiments: Sequence[Experiment], repeat: int) -> EngineReport:
    """Time so many rounds of experiments side by side, phase by phase.

    Raises:
        OstrakonError: they cannot be run side by side.
    """
    engine = Engine(experiments)
    device = engine.runs[0].theta.device
    product = _Product(device)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in (*PHASES, "product")}
    operations: dict[str, int] = {}
    for round in range(1, _WARM + repeat + 1):
        counting = round == _WARM
        works: list[tuple[str, Callable[[], object]]] = [*_phases(engine, round), ("product", product)]
        for name, work in works:
            with FlopCounterMode(display=False) if counting else nullcontext() as counter:
                taken = _timed(work, device)
            if counter is not None:
                operations[name] = counter.get_total_flops()
            if round > _WARM:
                samples[name].append(taken)
    wall, cpu = ({name: 1e3 * min(one[i] for one in taken) for name, taken in samples.items()} for i in (0, 1))
    phases = tuple(Phase(name, wall[name], cpu[name], operations[name]) for name in PHASES)
    return EngineReport(len(experiments), phases, operations["product"] / (wall["product"] / 1e3))


def _phases(engine: Engine, round: int) -> list[tuple[str, Callable[[], object]]]:
    """A round of the engine, in the parts that are timed."""
    received: list[tuple[Run, Received]] = []
    proposed: list[Candidates] = []
    return [
        ("gradients", lambda: engine.train(round)),
        ("attack", lambda: received.extend(engine.receive(round))),
        ("rule", lambda: proposed.append(engine.propose(received))),
        ("vote", lambda: engine.vote(proposed[0], round)),
    ]


class _Product:
    """A product of two large matrices of float32."""

    def __init__(self, device: torch.device) -> None:
        side = _SIDE[device.type]
        self._a, self._b = torch.ones(2, side, side, device=device)

    def __call__(self) -> object:
        return self._a @ self._b


def _timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds, and seconds of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu
