"""A folder of the user's own, with files called as parts of this program are, has no effect on it."""

import sys
from pathlib import Path

import pytest

from tests.harness.cluster import importing
from tests.harness.foreign_folder import fill, run

TASK = """
import common
from ostrakon.common.tasks.linear import Linear


class Mine(Linear):
    classes = common.CLASSES
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path, "CLASSES = 10\nprint('the user\\'s own')\n")
    (tmp_path / "mytask.py").write_text(TASK)
    return tmp_path


def ostrakon(folder: Path, *words: str) -> str:
    return run(folder, [sys.executable, "-m", "ostrakon", *words], importing())


def test_a_users_own_files_are_not_run_in_place_of_the_programs(folder: Path) -> None:
    said = ostrakon(folder, "up", "--help")
    assert "Usage" in said
    assert "the user's own" not in said


def test_a_task_imports_the_users_own_files(folder: Path) -> None:
    (folder / "worker.toml").write_text('task = "mytask:Mine"\n')
    said = ostrakon(folder, "init", "--config", "worker.toml", "--output", "initial.safetensors")
    assert "the user's own" in said
    assert (folder / "initial.safetensors").exists()
