"""What happened, as JSON lines in the run's folder. A torn last line after a crash is for readers to skip."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Metrics(Protocol):
    """Where the coordinator tells what happened."""

    def record(self, event: str, **values: Any) -> None:
        """Keep one event."""


class MetricsFile:
    """Appends one JSON object a line to `metrics.jsonl`."""

    def __init__(self, path: Path) -> None:
        """Opens the file for appending; a line that a crash tore is ended first."""
        torn = path.exists() and path.stat().st_size > 0 and _last_byte(path) != b"\n"
        self._file = path.open("a", encoding="utf-8", buffering=1)
        if torn:
            self._file.write("\n")

    def record(self, event: str, **values: Any) -> None:
        """Keep one event."""
        self._file.write(json.dumps({"event": event, **values}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


@dataclass
class Traffic:
    """Message bytes over all workers and calls."""

    received: int = 0
    sent: int = 0
