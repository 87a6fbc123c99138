"""Tasks as people write them, with the command that people give."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.apart import apart
from ostrakon.deploy.processes import start_fork_server
from ostrakon.deploy.settings import RunSettings
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from tests.harness.cluster import PATIENCE, importing
from tests.harness.command import Ended, ostrakon

SMALL = ("WORKERS=3", "BYZANTINE=1", "F=1", "GAMMA=0.5", "GRACE_FLOOR=60", "EVALUATE_EVERY=2")

SOURCE = """
import random
import numpy as np
import torch
from torch import nn
from ostrakon import Examples, Task

class Net(nn.Module):
    # Draws from every generator, writes into its input, and has one of each thing that is no part of theta.
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(6, 8).requires_grad_(False)
        self.last = nn.Linear(8, 3)
        self.drop = nn.Dropout(0.3)
        self.register_buffer("mask", torch.ones(6), persistent=False)
        self.register_buffer("order", torch.randperm(6))
    def forward(self, x):
        x.mul_(self.mask)
        x = x[:, self.order] + 0.1 * torch.randn_like(x) + 0.1 * float(np.random.rand()) + 0.1 * random.random()
        return self.last(self.drop(torch.relu(self.frozen(self.second(self.first(x))))))

class Noisy(Task):
    classes = 3
    def model(self): return Net()
    def draw(self, m):  # from global generators
        x = torch.randn(m, 6) + torch.from_numpy(np.random.randn(m, 6)).float()
        return Examples(x, x[:, :3].argmax(dim=1))
    def worker_data(self, worker, workers, seed): return self.draw(60)
    def test_data(self, seed): return self.draw(700)

class Raises(Noisy):
    def losses(self, outputs, labels): return outputs.no_such_thing

class NoClasses(Noisy):
    classes = None

class Exits(Noisy):
    def test_data(self, seed):
        import os
        os._exit(0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def up(folder: Path, *words: str) -> Ended:
    return ostrakon(folder, "up", *SMALL, *words)


def chain(folder: Path, run: str) -> list[str]:
    ledger = SqliteLedger(folder / "runs" / run / "ledger.sqlite")
    try:
        return [entry.winner for entry in ledger.entries()]
    finally:
        ledger.close()


def test_one_seed_is_one_chain_whatever_a_model_draws_and_its_files_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("a", "b"):
        done = up(folder, "TASK=mine:Noisy", "ATTACK=SF", "ROUNDS=4", f"RUN={run}")
        assert done.status == 0, done.said + done.wrong
        assert 0 <= json.loads((folder / "runs" / run / "summary.json").read_text())["accuracy"] <= 1
    assert chain(folder, "a") == chain(folder, "b")
    evaluations = [(folder / "runs" / run / "evaluations.jsonl").read_text() for run in "ab"]
    assert evaluations[0].splitlines()[-2:] == evaluations[1].splitlines()[-2:]

    monkeypatch.syspath_prepend(str(folder))
    module: Any = __import__("mine").Net()
    initial, last, average = (
        load_file(folder / "runs" / "a" / f"{name}.safetensors") for name in ("initial", "last", "average")
    )
    for state in (initial, last, average):
        module.load_state_dict(state)
        assert torch.equal(module.order, initial["order"])
        assert torch.equal(module.frozen.weight, initial["frozen.weight"])
    assert not torch.equal(last["last.weight"], initial["last.weight"])

    (folder / "mine.py").write_text(SOURCE.replace("self.last", "self.head"))  # of the same size
    again = up(folder, "RUN=a", "ROUNDS=5")
    assert again.status == 2
    assert "of this run's model is last.weight (3, 8), of task mine:Noisy head.weight (3, 8)" in again.wrong
    assert len(chain(folder, "a")) == 4


def test_code_that_cannot_work_is_a_sentence_before_anything_is_started(folder: Path) -> None:
    done = up(folder, "TASK=mine:Raises")
    assert done.status == 2
    assert done.wrong.startswith("error: task Raises: losses: AttributeError: 'Tensor' object has no attribute")
    assert "no_such_thing' (mine.py, line" in done.wrong
    assert len(done.wrong.splitlines()) == 1
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"task": "mine:NoClasses", "attack": "LF"},
            "NoClasses has no number of `classes`: set classes = K, or define",
        ),
        ({"task": "mine:Exits"}, "the rehearsal: its process died with status 0 before it had an answer"),
        ({"task": "femnist", "data": Path("nowhere.npz")}, "nowhere.npz does not exist: give the path of an npz"),
    ],
)
def test_the_rehearsal_covers_flipped_labels_data_and_code_that_exits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], sentence: str
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    start_fork_server()
    chosen = RunSettings(workers=3, byzantine=1, f=1, **{"attack": "SF", **settings})
    with pytest.raises(OstrakonError) as refused:
        apart("the rehearsal", "ostrakon.deploy.rehearsal:rehearse_run", chosen, folder / "initial.safetensors")
    assert sentence in str(refused.value)


def test_a_worker_on_its_own_host_rehearses_before_it_calls_anybody(folder: Path) -> None:
    (folder / "worker.toml").write_text('task = "mine:Raises"\nid = "a"\nserver = "127.0.0.1:9"\n')
    done = subprocess.run(
        [sys.executable, "-m", "ostrakon", "worker", "--config", "worker.toml"],
        cwd=folder,
        env=importing(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "no_such_thing' (mine.py, line" in done.stderr
    assert "Traceback" not in done.stderr
