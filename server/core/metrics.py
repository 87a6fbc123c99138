"""What happened, as JSON lines in the run's folder."""

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


@dataclass
class Traffic:
    """What came and went, over all workers and calls."""

    received: int = 0  # bytes of messages
    sent: int = 0
    late_votes: int = 0  # that came after their round was decided
