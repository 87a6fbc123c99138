"""How long something takes: interleaved with what it is compared to, so that a machine's moods meet both."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

Work = Callable[[], object]


class Duration(NamedTuple):
    """Medians over the repetitions."""

    milliseconds: float
    cpu_milliseconds: float


def durations(works: Mapping[str, Work], device: torch.device, repeat: int) -> dict[str, Duration]:
    """Time each of some works `repeat` times, one after another in turn, after one round that is not counted."""
    samples: dict[str, list[Duration]] = {name: [] for name in works}
    for turn in range(repeat + 1):
        for name, work in works.items():
            sample = _once(work, device)
            if turn:
                samples[name].append(sample)
    return {name: Duration(*map(statistics.median, zip(*taken, strict=True))) for name, taken in samples.items()}


def _once(work: Work, device: torch.device) -> Duration:
    _finish(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    _finish(device)
    spent = Duration(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu))
    del result  # only now: freeing it is not the work's
    return spent


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
