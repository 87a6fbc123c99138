"""A model to start from: of the seed, or with the weights of somebody's file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.model_file import read_model
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from tests.unit.small_task import SmallTask


class Net(nn.Module):
    """One of each: trained, tied, frozen, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.last = nn.Linear(8, 3)
        self.register_buffer("order", torch.arange(8))
        self.register_buffer("mask", torch.full((8,), -torch.inf))  # as those of attention

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.frozen(self.second(self.first(x[:, self.order]))))


class Tuned(SmallTask):
    def model(self) -> nn.Module:
        torch.manual_seed(1)
        return Net()


SETTINGS = WorkerSettings(task="tests.unit.test_initial:Tuned")


def trained() -> Net:
    """The model of the task with other weights where training changes them."""
    torch.manual_seed(1)
    model = Net()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5)
    return model


def started(tmp_path: Path, source: Path) -> dict[str, Tensor]:
    write_initial(SETTINGS, tmp_path / "initial.safetensors", source)
    model = read_model(tmp_path / "initial.safetensors")
    assert model.metadata["task"] == SETTINGS.built_for
    return dict(load_file(tmp_path / "initial.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_run_starts_from_the_weights_of_a_file(tmp_path: Path, dtype: torch.dtype) -> None:
    model, source = trained(), tmp_path / "model.safetensors"
    tuned = {name for name, one in model.named_parameters() if one.requires_grad}
    state = {name: (v.to(dtype) if name in tuned else v).clone() for name, v in model.state_dict().items()}
    state["second.weight"] = state["first.weight"].clone()
    save_file(state, source)
    found = started(tmp_path, source)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0.01 if dtype == torch.bfloat16 else 0, atol=0)


def test_tied_weights_may_stand_in_the_file_once_and_what_no_training_changes_not_at_all(tmp_path: Path) -> None:
    model, source = trained(), tmp_path / "model.safetensors"
    save_model(model, str(source))
    whole = started(tmp_path, source)
    assert torch.equal(whole["second.weight"], model.first.weight)
    kept = {name: v for name, v in load_file(source).items() if not name.startswith(("frozen", "order"))}
    save_file(kept, source)
    assert all(torch.equal(value, whole[name]) for name, value in started(tmp_path, source).items())


def test_without_a_file_the_weights_follow_from_the_seed(tmp_path: Path) -> None:
    write_initial(SETTINGS, tmp_path / "initial.safetensors")
    found = load_file(tmp_path / "initial.safetensors")
    assert torch.equal(found["first.weight"], Tuned().model().state_dict()["first.weight"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"last.weight": None}, "lacks last.weight of the task's model: write a state dict of the whole model"),
        ({"head.weight": torch.zeros(3)}, "holds head.weight, which the task's model does not have"),
        ({"last.wieght": torch.zeros(3, 8), "last.weight": None}, "and lacks last.weight; is last.weight meant?"),
        ({f"x{i}": torch.zeros(1) for i in range(5)}, "holds x0, x1, x2 and 2 more, which the task's model does not"),
        ({"last.weight": torch.zeros(4, 8)}, r"last.weight is \(4, 8\), in the task's model it is \(3, 8\)"),
        ({"last.bias": torch.zeros(3, dtype=torch.int64)}, "last.bias is torch.int64, in the task's model it is"),
        ({"last.bias": torch.tensor([1, 2, torch.nan])}, "last.bias holds values that are not finite"),
        ({"last.bias": torch.full((3,), 1e300, dtype=torch.float64)}, "last.bias holds values that are not finite"),
        ({"frozen.bias": torch.zeros(8)}, "frozen.bias has other values than in the task's model, where no training"),
        ({"order": torch.arange(8).flip(0)}, "order has other values than in the task's model"),
        (
            {"second.weight": torch.zeros(8, 8)},
            "second.weight and first.weight, one parameter of the task's model, differ",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    state = {name: value.clone() for name, value in trained().state_dict().items()} | change
    save_file({name: value for name, value in state.items() if value is not None}, tmp_path / "model.safetensors")
    with pytest.raises(OstrakonError, match=f"model.safetensors:? {sentence}|model.safetensors.*{sentence}"):
        started(tmp_path, tmp_path / "model.safetensors")
    assert not (tmp_path / "initial.safetensors").exists()


def test_a_file_that_torch_has_saved_is_not_read(tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / "model.pt")
    with pytest.raises(OstrakonError, match=r"model.pt is damaged .*: give a safetensors file, which"):
        started(tmp_path, tmp_path / "model.pt")
    with pytest.raises(OstrakonError, match=r"nowhere.safetensors does not exist: give a safetensors file"):
        started(tmp_path, tmp_path / "nowhere.safetensors")
