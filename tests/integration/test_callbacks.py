"""Trainers of other people's that take part in a run: the examples, with the real packages and tiny models."""

import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ostrakon import Worker, write_initial
from ostrakon.common.choice import Ballot
from ostrakon.worker.embedded import round
from ostrakon.worker.embedded.judging import ballot_by_losses
from tests.harness.cluster import Cluster
from tests.harness.examples import example
from tests.harness.together import together

Make = Callable[..., Cluster]
Loss = Callable[[nn.Module], torch.Tensor]

# Unequal momenta, so that there is something to vote on.
FACTORS = (0.0, 1.0, 3.0)

# Who does not vote is waited for once.
PATIENT: dict[str, Any] = {"grace_floor": 5.0, "absent_after": 1}


def plain(run: Cluster, name: str, model: nn.Module, loss_of: Loss) -> None:
    with Worker(model, server=run.address, tls=run.tls("worker", name)) as worker:
        for one in worker:
            (FACTORS[worker.position] * loss_of(model)).backward()
            one.submit()
            if worker.position == 1:  # two votes are enough: the trainer's is one of them
                one.vote("inner")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Ballot]:
    """The ballots of those that look at candidates."""
    ballots: list[Ballot] = []

    def kept(*arguments: Any) -> Ballot:
        ballots.append(ballot_by_losses(*arguments))
        return ballots[-1]

    monkeypatch.setattr(round, "ballot_by_losses", kept)
    return ballots


def beside_plain_loops(run: Cluster, main: Callable[[], None], make: Callable[[], nn.Module], loss_of: Loss) -> None:
    """Play a run of the example as w00, and plain loops as the others."""
    models = [make() for _ in run.roster]
    write_initial(models[0], run.initial)
    server = run.server()
    others = [partial(plain, run, *one, loss_of) for one in zip(run.roster[1:], models[1:], strict=True)]
    together([main, *others])
    assert server.wait(20) == 0, server.text
    assert not any("w00" in entry.missing for entry in run.entries())


def test_transformers_trainer(cluster: Make, monkeypatch: pytest.MonkeyPatch, tried: list[Ballot]) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    run = cluster(task="own", rounds=8, gamma=0.5, **PATIENT)
    monkeypatch.chdir(run.folder)
    script = example("trainer.py")
    rng = random.Random(1)
    Path("text").write_text("".join(rng.choice("ab") for _ in range(64 * 40)))
    batch = torch.tensor(list(Path("text").read_bytes())).view(-1, 64)[:8]

    def loss_of(model: nn.Module) -> torch.Tensor:
        return model(input_ids=batch, labels=batch).loss

    beside_plain_loops(run, partial(script.main, "w00", run.address, "text"), script.make_model, loss_of)
    assert len(tried) >= 4 and all(math.isfinite(ballot.inner_loss) for ballot in tried)
    saved, last = load_file("w00/model.safetensors"), load_file(run.run / "last.safetensors")
    assert all(torch.equal(last[name], value) for name, value in saved.items())
    trained = script.make_model()
    trained.load_state_dict(last)
    assert loss_of(trained.eval()) < loss_of(script.make_model().eval()) - 0.2


def test_lightning_trainer(cluster: Make, monkeypatch: pytest.MonkeyPatch, tried: list[Ballot]) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    run = cluster(task="own", rounds=20, gamma=0.2, **PATIENT)
    monkeypatch.chdir(run.folder)
    script = example("lightning_loop.py")
    inputs = np.random.default_rng(1).standard_normal((200, 4))
    np.savetxt("data.csv", np.column_stack([inputs, inputs.sum(axis=1)]), delimiter=",")
    x = torch.from_numpy(inputs.astype(np.float32))

    def loss_of(module: nn.Module) -> torch.Tensor:
        return nn.functional.mse_loss(module.net(x), x.sum(dim=1, keepdim=True))

    beside_plain_loops(run, partial(script.main, "w00", run.address, "data.csv"), script.Regression, loss_of)
    assert len(tried) >= 10 and all(math.isfinite(ballot.inner_loss) for ballot in tried)
    last = load_file(run.run / "last.safetensors")
    assert all(torch.equal(last[f"net.{name}"], value) for name, value in torch.load("w00.pt").items())
    trained = script.Regression()
    trained.load_state_dict(last)
    assert loss_of(trained) < 0.5 * loss_of(script.Regression())
