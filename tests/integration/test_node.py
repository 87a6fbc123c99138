"""A worker in another language: it passes the conformance run, and counts in every round of a real one."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.node.iris import Iris
from ostrakon.common.model_file import read_model
from ostrakon.common.run_files import LAST
from ostrakon.common.settings import build
from ostrakon.deploy.conformance.trial import SCENES
from ostrakon.deploy.conformance.worker import Command
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.testbed.settings import WorkerFile
from tests.harness.cluster import PATIENCE, Cluster
from tests.harness.node import EXAMPLE, node_worker
from tests.harness.on_trial import Hall, sentences

TASK = "examples.node.iris:Iris"


@pytest.fixture
def initial(tmp_path: Path) -> Path:
    path = tmp_path / "iris.safetensors"
    write_initial(WorkerSettings(task=TASK), path)
    return path


def test_it_does_everything_right(tmp_path: Path, initial: Path) -> None:
    hall = Hall(tmp_path)
    command = shlex.join(node_worker(hall.address, tmp_path, "foreign", TASK))
    worker = Command(command, tmp_path / "worker.log")
    assert sentences(hall.play(worker, initial=initial, patience=60)) == {scene.name: "" for scene in SCENES}


def test_it_learns_with_others_over_mtls_and_counts_in_every_round(
    cluster: Callable[..., Cluster], initial: Path
) -> None:
    rounds = 20
    made = cluster(task=TASK, initial=str(initial), rounds=rounds, gamma=1.0)
    ours, node = made.roster[:-1], made.roster[-1]
    command = node_worker(made.address, made.certificates, node, TASK)
    server = made.server()
    for name in ours:
        made.worker(name, task=TASK)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr
    assert server.wait() == 0
    entries = made.entries()
    assert len(entries) == rounds and not any(entry.missing for entry in entries)
    # Where the two others agree, the vote is decided without it.
    assert any(node in {vote.worker for vote in entry.votes} for entry in entries)
    test, theta = Iris().test_data(1), read_model(made.run / LAST).theta
    scores = test.inputs.numpy() @ theta[:12].reshape(3, 4).T + theta[12:]
    assert (scores.argmax(axis=1) == test.labels.numpy()).mean() > 0.6


def test_its_page_shows_settings_that_are_read_and_links_that_lead_somewhere() -> None:
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    server, worker = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    build(ServerSettings, tomllib.loads(server), source="server.toml")
    build(WorkerFile, tomllib.loads(worker), source="a.toml")
    for target in re.findall(r"\]\(([^)#]+)", page):
        assert (EXAMPLE / target).exists(), target


def test_its_lock_file_names_no_host() -> None:
    assert "resolved" not in (EXAMPLE / "package-lock.json").read_text(encoding="utf-8")
