"""A folder of the user's own, with files called as parts of this program are."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.harness.cluster import PATIENCE

NAMES = ("common", "server", "worker", "deploy", "protos", "bench", "cli", "v1")


def fill(folder: Path, source: str) -> None:
    """Put this source into a file of each name."""
    for name in NAMES:
        (folder / f"{name}.py").write_text(source)


def run(folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a command says in that folder, where it has to end well."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
