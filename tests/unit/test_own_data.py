"""One settings file for all hosts, each with a data file of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.settings import TlsFiles
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.deploy import certificates
from ostrakon.deploy.holdings import holdings
from ostrakon.deploy.rehearsal import rehearse_run
from ostrakon.deploy.settings import RunSettings
from ostrakon.worker.initial import write_initial
from ostrakon.worker.own_data import own_data
from ostrakon.worker.settings import WorkerSettings

DATA = Path("/data/{worker}/part-{worker}.npz")


class Filed(Task):
    """Reads all of its file, when it is made."""

    classes = 2

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        with np.load(str(data)) as file:
            self.inputs, self.labels = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])

    def model(self) -> nn.Module:
        return nn.Linear(2, 2)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return Examples(self.inputs, self.labels)

    def test_data(self, seed: int) -> Examples:
        return Examples(self.inputs, self.labels)


def test_the_id_of_the_certificate_stands_in_the_path_and_without_one_the_id_of_the_settings(tmp_path: Path) -> None:
    certificates.init(tmp_path)
    for role, id in (("worker", "oslo"), ("observer", "evaluator")):
        certificates.issue(tmp_path, role, id)  # type: ignore[arg-type]
        stem = tmp_path / f"{role}-{id}"
        tls = TlsFiles(ca=tmp_path / "ca.pem", certificate=stem.with_suffix(".pem"), key=stem.with_suffix(".key"))
        assert own_data(WorkerSettings(data=DATA, tls=tls)) == Path(f"/data/{id}/part-{id}.npz")
    assert own_data(WorkerSettings(data=DATA, id="pisa")) == Path("/data/pisa/part-pisa.npz")


def test_a_path_without_the_word_is_what_it_is_and_one_with_it_needs_an_id() -> None:
    assert own_data(WorkerSettings(data=Path("/data/{id}.npz"))) == Path("/data/{id}.npz")
    assert own_data(WorkerSettings()) is None
    with pytest.raises(OstrakonError, match=r"data = '/data/\{worker\}/part-\{worker\}.npz' is another file for each"):
        own_data(WorkerSettings(data=DATA))


def test_a_run_on_this_machine_reads_a_file_for_each_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostrakon.deploy.rehearsal.prepare", lambda threads: None)  # it is for a process of its own
    for id, m in (("w00", 4), ("w01", 6), ("w02", 8), ("evaluator", 20)):
        rng = np.random.default_rng(m)
        np.savez(tmp_path / f"{id}.npz", x=rng.standard_normal((m, 2), dtype=np.float32), y=np.arange(m) % 2)
    task, data = f"{__name__}:Filed", tmp_path / "{worker}.npz"
    settings = RunSettings(task=task, data=data, workers=3, byzantine=0, f=1, attack="none", device="cpu")
    rehearse_run(settings, tmp_path / "initial.safetensors")
    write_initial(WorkerSettings(task=task, data=data, id="w01"), tmp_path / "initial.safetensors")
    assert holdings(settings).training.sum(axis=1).tolist() == [4, 6, 8]
    (tmp_path / "evaluator.npz").unlink()
    with pytest.raises(OstrakonError, match=r"evaluator\.npz"):
        rehearse_run(settings, tmp_path / "initial.safetensors")
