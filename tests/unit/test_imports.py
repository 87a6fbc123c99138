"""What modules bring with them: processes that wait for nothing but their imports start as fast as these allow."""

import subprocess
import sys
from collections.abc import Iterable, Sequence

import pytest

from ostrakon.deploy.processes import PRELOADED
from tests.harness.cluster import ROOT


def imported(modules: Iterable[str], among: Sequence[str]) -> list[str]:
    """Which of `among` a fresh process has imported after `modules`."""
    program = f"import {', '.join(modules)}, sys; print(*[name for name in {list(among)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_module_that_every_process_imports_stays_light() -> None:
    heavy = ["grpc", "torch", "matplotlib", "cryptography", "pydantic"]
    assert imported(["ostrakon.cli.main"], among=heavy) == []


def test_a_launcher_leaves_torch_to_the_processes_that_it_starts() -> None:
    modules = ["ostrakon.deploy.launcher", "ostrakon.deploy.report", "ostrakon.deploy.certificates"]
    assert imported(modules, among=["torch"]) == []


def test_round_logic_brings_neither_torch_nor_grpc() -> None:
    assert imported(["ostrakon.server.core.round", "ostrakon.worker.part"], among=["torch", "numpy", "grpc"]) == []


@pytest.mark.slow
def test_what_processes_are_forked_from_has_torch_but_not_grpc() -> None:
    assert imported(PRELOADED, among=["torch", "grpc"]) == ["torch"]
