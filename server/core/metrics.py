"""What happened, as JSON lines in the run's folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ostrakon.common.json_lines import JsonLines


class Metrics(Protocol):
    """Where the coordinator tells what happened."""

    def record(self, event: str, **values: Any) -> None:
        """Keep one event."""


class MetricsFile:
    """Keeps events as lines of `metrics.jsonl`."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path)

    def record(self, event: str, **values: Any) -> None:
        """Keep one event."""
        self._lines.add({"event": event, **values})

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class Stopwatch:
    """How long each phase of a round lasts, and how long this process's CPU works meanwhile."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = now(), time.process_time()
        self._phases: dict[str, list[float]] = {}

    def lap(self, phase: str) -> None:
        """What has passed since the last lap went into this phase."""
        last, self._last = self._last, (self._now(), time.process_time())
        spent = self._phases.setdefault(phase, [0.0, 0.0])
        for i in (0, 1):
            spent[i] += self._last[i] - last[i]

    def phases(self) -> dict[str, list[float]]:
        """Seconds and CPU seconds of each phase since this was asked last."""
        phases, self._phases = self._phases, {}
        return {name: [round(seconds, 4) for seconds in spent] for name, spent in phases.items()}


@dataclass
class Traffic:
    """What came and went, over all workers and calls."""

    received: int = 0  # bytes of messages
    sent: int = 0
    late_votes: int = 0  # that came after their round was decided
