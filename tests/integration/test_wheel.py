"""What is installed is one package and one command, which work wherever they are used."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.harness.cluster import PATIENCE, ROOT
from tests.harness.foreign_folder import fill, run

OLDEST_SETUPTOOLS = 77  # as in pyproject.toml
TASK = """
import ostrakon
from ostrakon.common.tasks.linear import Linear

print("imported from", ostrakon.__file__)


class Mine(Linear):
    pass
"""


def why_not() -> str:
    """What is missing for an installation without a network; empty where nothing is."""
    if find_spec("pip") is None:
        return "pip is not installed"
    found = metadata.version("setuptools") if find_spec("setuptools") else "none"
    old = not found.partition(".")[0].isdecimal() or int(found.partition(".")[0]) < OLDEST_SETUPTOOLS
    return f"setuptools {OLDEST_SETUPTOOLS} or newer is needed, found {found}" if old else ""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a copy of the repository was installed into."""
    if why_not():
        pytest.skip(why_not())
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    links = (link.resolve() for link in (ROOT / "ostrakon").iterdir() if link.is_symlink())
    for room in {"ostrakon", *(room.relative_to(ROOT).parts[0] for room in links)}:
        shutil.copytree(ROOT / room, source / room, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, str(source)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path, "raise RuntimeError('the user\\'s own file was imported')\n")
    (tmp_path / "mytask.py").write_text(TASK)
    return tmp_path


def importing(installed: Path) -> dict[str, str]:
    """An environment in which what was installed is imported, and no repository."""
    return os.environ | {"PYTHONPATH": str(installed)}


def test_one_package_is_installed_with_all_of_its_modules_and_no_links(installed: Path) -> None:
    top = {path.name for path in installed.iterdir()}
    assert {name for name in top if not re.fullmatch(r"ostrakon-.*\.dist-info", name)} == {"ostrakon", "bin"}
    package = ROOT / "ostrakon"
    expected = {
        Path(folder, name).relative_to(package)
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if name.endswith((".py", ".pyi", ".csv"))
    }
    found = {
        path.relative_to(installed / "ostrakon")
        for path in (*installed.glob("ostrakon/**/*.py*"), *installed.glob("ostrakon/**/*.csv"))
    }
    assert found == expected
    assert not any(path.is_symlink() for path in installed.rglob("*"))


def test_the_table_of_rules_is_printed_beside_a_users_own_files(installed: Path, folder: Path) -> None:
    said = run(folder, [sys.executable, "-m", "ostrakon", "rules"], importing(installed))
    assert "n = 35 rows, f = 14" in said


def test_the_script_trains_with_a_task_of_the_current_folder_beside_a_users_own_files(
    installed: Path, folder: Path
) -> None:
    words = ["TASK=mytask:Mine", "WORKERS=3", "BYZANTINE=0", "F=1", "ROUNDS=2", "RUN=small"]
    said = run(folder, [str(installed / "bin" / "ostrakon"), "up", *words], importing(installed))
    places = set(re.findall(r"imported from (.*)", said))
    logs = [log.read_text() for log in (folder / "runs" / "small" / "logs").iterdir()]
    places |= {place for log in logs for place in re.findall(r"imported from (.*)", log)}
    assert places == {str(installed / "ostrakon" / "__init__.py")}
    summary = json.loads((folder / "runs" / "small" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("completed", 2)
