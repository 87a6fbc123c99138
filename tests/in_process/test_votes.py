"""Criteria of the vote in whole rounds, with workers that train and vote as those that ship."""

import asyncio
from pathlib import Path

import pytest
import torch
from torch import nn

from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.server.core.round import Phase
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.ledger import Entry
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.settings import Vote, WorkerSettings
from tests.harness.house import D, House
from tests.harness.scenario import play, reached

ROSTER = ("a", "b", "c", "d", "e")
ROUNDS = 8


class Plane(Task):
    """Which side of a plane in two dimensions: a model of three parameters, as a house has."""

    def model(self) -> nn.Module:
        model = nn.Linear(2, 1)
        assert sum(p.numel() for p in model.parameters()) == D
        return model

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        inputs = torch.randn(100, 2, generator=torch.Generator().manual_seed(worker))
        return Examples(inputs, (inputs.sum(dim=1) > 0.5).float())

    def test_data(self, seed: int) -> Examples:
        return self.worker_data(-1, 0, seed)

    def losses(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels, reduction="none")


async def run(directory: Path, vote: Vote, *, interrupted: bool = False) -> list[Entry]:
    """The entries of a run; if it is interrupted, its server dies in the middle of a vote, and another goes on."""
    directory.mkdir()
    house = House(directory, roster=ROSTER, f=2, rounds=ROUNDS)
    settings = WorkerSettings(device="cpu", beta=0.5, batch=4, vote=vote, vote_batch=4)
    sessions = [house.session(name, LocalLearner(settings, Plane())) for name in ROSTER]
    house.start()
    workers = [asyncio.create_task(session.take_part()) for session in sessions]
    if interrupted:
        await reached(lambda: house.coordinator.head_round >= 4 and house.coordinator.round.phase is Phase.VOTING)
        await house.stop()
        house = House(directory, roster=ROSTER, f=2, rounds=ROUNDS, port=house.port)
        house.start()
    assert await asyncio.gather(*workers) == ["completed"] * len(ROSTER)
    entries = list(house.ledger.entries())
    await house.stop()
    audit(directory)
    return entries


def chain(entries: list[Entry]) -> list[tuple[str | None, str | None, str]]:
    return [(entry.inner, entry.outer, entry.winner) for entry in entries]


def against_its_losses(entries: list[Entry]) -> list[int]:
    """In which rounds somebody voted for the candidate of the larger loss."""
    return [
        entry.round
        for entry in entries
        if any((vote.choice == "outer") != (vote.outer_loss < vote.inner_loss) for vote in entry.votes)
    ]


@pytest.mark.parametrize("vote", ["momentum", "mixed", "proximity"])
def test_a_round_that_a_dead_server_asked_for_already_is_voted_upon_as_if_it_had_not(
    tmp_path: Path, vote: Vote
) -> None:
    calm = play(run(tmp_path / "calm", vote))
    interrupted = play(run(tmp_path / "interrupted", vote, interrupted=True))
    assert {entry.term for entry in interrupted} == {1, 2}
    assert chain(interrupted) == chain(calm)


def test_the_losses_decide_alone_until_the_second_momentum_holds_enough(tmp_path: Path) -> None:
    entries = play(run(tmp_path / "momentum", "momentum"))
    against = against_its_losses(entries)
    assert against and min(against) >= 2
    assert not against_its_losses(play(run(tmp_path / "loss", "loss")))
