"""A folder of the user's own, with files called as parts of this program are, has no effect on it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import PATIENCE, importing

NAMES = ("common", "server", "worker", "deploy", "protos", "bench")
TASK = """
import common
from ostrakon.common.tasks.linear import Linear


class Mine(Linear):
    classes = common.CLASSES
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("CLASSES = 10\nprint('the user\\'s own')\n")
    (tmp_path / "mytask.py").write_text(TASK)
    return tmp_path


def run(folder: Path, *words: str) -> str:
    """What a command says in that folder, where it has to end well."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=importing(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("module", ["server", "worker", "deploy.local"])
def test_a_users_own_files_are_not_run_in_place_of_the_programs(folder: Path, module: str) -> None:
    said = run(folder, f"ostrakon.{module}", "--help")
    assert "Usage" in said
    assert "the user's own" not in said


def test_a_task_imports_the_users_own_files(folder: Path) -> None:
    (folder / "worker.toml").write_text('task = "mytask:Mine"\n')
    said = run(folder, "ostrakon.worker", "init", "--config", "worker.toml", "--output", "initial.safetensors")
    assert "the user's own" in said
    assert (folder / "initial.safetensors").exists()
