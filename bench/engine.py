"""The experiments' engine: rounds a second, where the time of a round goes, and what limits it.

The passes are counted in floating-point operations and set beside a plain product of large matrices on the same machine
in the same run. Times are the shortest of all rounds: what a busy neighbour takes is not the engine's.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
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
    """One phase of a round of all runs.

    Attributes:
        milliseconds, cpu_milliseconds: how long it took, and how long the CPU worked.
        operations: floating-point operations of its passes, and of other products of matrices.
        calls: how many operations on tensors torch was told of; a GPU is told of about as many.
    """

    name: str
    milliseconds: float
    cpu_milliseconds: float
    operations: int
    calls: int

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
    operations, calls = dict[str, int](), dict[str, int]()
    for round in range(1, _WARM + repeat + 1):
        counting = round == _WARM
        works: list[tuple[str, Callable[[], object]]] = [*_phases(engine, round), ("product", product)]
        for name, work in works:
            with ExitStack() as stack:
                if counting:
                    told = stack.enter_context(_Calls())  # type: ignore[no-untyped-call]
                    counter = stack.enter_context(FlopCounterMode(display=False))
                taken = _timed(work, device)
            if counting:
                operations[name], calls[name] = counter.get_total_flops(), told.count
            if round > _WARM:
                samples[name].append(taken)
    wall, cpu = ({name: 1e3 * min(one[i] for one in taken) for name, taken in samples.items()} for i in (0, 1))
    phases = tuple(Phase(name, wall[name], cpu[name], operations[name], calls[name]) for name in PHASES)
    return EngineReport(len(experiments), phases, operations["product"] / (wall["product"] / 1e3))


def _phases(engine: Engine, round: int) -> list[tuple[str, Callable[[], object]]]:
    """A round of the engine, in the parts that are timed."""
    received: list[tuple[Run, Received]] = []
    proposed: list[Candidates] = []
    return [
        ("gradients", lambda: engine.train(round)),
        ("attack", lambda: received.extend(engine.receive(round))),
        ("rule", lambda: proposed.append(engine.propose(received, round))),
        ("vote", lambda: engine.vote(proposed[0], round)),
    ]


class _Product:
    """A product of two large matrices of float32."""

    def __init__(self, device: torch.device) -> None:
        side = _SIDE[device.type]
        self._a, self._b = torch.ones(2, side, side, device=device)

    def __call__(self) -> object:
        return self._a @ self._b


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations on tensors; views are none."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def _timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds, and seconds of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu
