"""What a process of a run does first on a host of its own: it enters it."""

import importlib
import tomllib
from pathlib import Path

from tests.network.hosts import enter


def main(config: Path, log: Path | None) -> None:
    """Run another module's main inside a namespace; `config` says which, and with which settings."""
    where = tomllib.loads(config.read_text(encoding="utf-8"))
    enter(Path(where["namespace"]))
    importlib.import_module(where["module"]).main(Path(where["config"]), log)
