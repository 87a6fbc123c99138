"""Files of one JSON object a line, which survive a kill: a torn last line is ended before the next one is added."""

import json
import os
from pathlib import Path
from typing import Any


class JsonLines:
    """Appends to such a file, which is made, with its folder, if it does not exist."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        if path.stat().st_size and _last_byte(path) != b"\n":
            self._file.write("\n")

    def add(self, values: dict[str, Any]) -> None:
        """Add one line."""
        self._file.write(json.dumps(values) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
