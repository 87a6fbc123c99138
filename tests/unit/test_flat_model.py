"""FlatModel: one vector of parameters, one of gradients, and a module that sees both."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import read_fixed_part, write_fixed_part
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.model_file import read_model, write_model


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def test_theta_holds_every_parameter_in_the_order_of_the_layout() -> None:
    module = small()
    expected = torch.cat([p.detach().reshape(-1).clone() for p in module.parameters()])
    flat = FlatModel(module, "cpu")
    assert torch.equal(flat.theta, expected)
    assert flat.layout == (("0.weight", (2, 1, 3, 3)), ("0.bias", (2,)), ("3.weight", (3, 8)), ("3.bias", (3,)))
    assert flat.parameters == 18 + 2 + 24 + 3


def test_the_module_computes_with_what_is_loaded() -> None:
    flat = FlatModel(nn.Linear(2, 1), "cpu")
    flat.load(torch.tensor([1.0, 2.0, 3.0]))
    assert flat.module(torch.tensor([[10.0, 100.0]])).item() == 213


def test_load_copies_so_that_the_sender_may_reuse_its_vector() -> None:
    flat = FlatModel(nn.Linear(2, 1), "cpu")
    theta = torch.ones(3)
    flat.load(theta)
    theta.zero_()
    assert torch.equal(flat.theta, torch.ones(3))


def test_backward_passes_add_up_in_the_gradient_vector_until_it_is_cleared() -> None:
    inputs = torch.randn(5, 1, 4, 4)
    module = small()
    expected = torch.autograd.grad(module(inputs).square().sum(), list(module.parameters()))
    flat = FlatModel(module, "cpu")
    for times in (1, 2):
        flat.module(inputs).square().sum().backward()
        torch.testing.assert_close(flat.gradient, times * torch.cat([g.reshape(-1) for g in expected]))
    flat.zero_gradient()
    assert flat.gradient.count_nonzero() == 0
    flat.module(inputs).square().sum().backward()
    torch.testing.assert_close(flat.gradient, torch.cat([g.reshape(-1) for g in expected]))


def test_a_step_on_theta_is_a_step_of_the_module() -> None:
    flat = FlatModel(nn.Linear(2, 1), "cpu")
    before = flat.module.weight.detach().clone()
    flat.module(torch.ones(1, 2)).sum().backward()
    flat.theta.sub_(flat.gradient, alpha=0.5)
    torch.testing.assert_close(flat.module.weight.detach(), before - 0.5)


def test_tied_weights_are_held_once_and_stay_tied() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    flat = FlatModel(module, "cpu")
    assert flat.parameters == 9
    flat.load(2 * torch.eye(3).reshape(-1))
    assert torch.equal(flat.module(torch.ones(1, 3)), torch.full((1, 3), 4.0))


def test_a_frozen_parameter_is_no_part_of_theta_and_stays_what_it_is() -> None:
    module = nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    bias = module.bias.item()
    flat = FlatModel(module, "cpu")
    assert flat.layout == (("weight", (1, 2)),)
    flat.module(torch.ones(1, 2)).sum().backward()
    assert flat.gradient.tolist() == [1, 1]
    flat.load(torch.tensor([3.0, 4.0]))
    assert flat.module(torch.ones(1, 2)).item() == pytest.approx(7 + bias)
    assert [tensor.name for tensor in flat.fixed().constants] == ["bias"]


def test_weights_that_a_forward_cut_off_from_theta_come_back_with_the_next_model() -> None:
    flat = FlatModel(nn.Linear(2, 1, bias=False), "cpu")
    flat.module.weight.data = torch.zeros(1, 2)  # as a max-norm constraint does: weight.data = renorm(weight.data)
    flat.load(torch.tensor([3.0, 4.0]))
    assert flat.module(torch.ones(1, 2)).item() == 7


def test_a_gradient_that_arrived_elsewhere_is_brought_home() -> None:
    flat = FlatModel(nn.Linear(2, 1), "cpu")
    flat.module.zero_grad(set_to_none=True)
    flat.module(torch.tensor([[5.0, 6.0]])).sum().backward()
    flat.collect_gradient()
    assert flat.gradient.tolist() == [5, 6, 1]


class Masked(nn.Module):
    """A constant that is no state, a counter, and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(3, 2).requires_grad_(False)
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]), persistent=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.mask.mul_(2)
        return self.frozen(self.second(self.first(x * self.mask)))


def test_buffers_are_what_they_were_before_every_pass() -> None:
    flat = FlatModel(Masked(), "cpu")
    theta = flat.theta.clone()
    found = set()
    for _ in range(3):
        flat.load(theta)
        found.add(flat.module(torch.ones(1, 3)).sum().item())
        assert flat.module.calls == 1
    assert len(found) == 1
    assert len(flat.state.written()) == 2


def test_a_model_file_holds_all_that_load_state_dict_asks_for(tmp_path: Path) -> None:
    flat = FlatModel(Masked(), "cpu")
    write_model(tmp_path / "m.safetensors", flat.theta.numpy(), flat.layout, {"task": "t"}, flat.fixed())
    other = Masked()
    other.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert torch.equal(FlatModel(other, "cpu").theta, flat.theta)
    assert torch.equal(other.frozen.weight, flat.module.frozen.weight)
    assert other.second.weight is other.first.weight
    found = read_model(tmp_path / "m.safetensors")
    assert found.layout == flat.layout == (("first.weight", (3, 3)),)
    assert found.fixed.aliases == {"second.weight": "first.weight"}
    assert found.fixed.digest() == flat.fixed().digest() != FlatModel(Masked(), "cpu").fixed().digest()
    write_fixed_part(tmp_path / "f.safetensors", found.fixed)
    assert read_fixed_part(tmp_path / "f.safetensors").digest() == found.fixed.digest()


def test_a_model_of_another_task_is_refused() -> None:
    flat = FlatModel(nn.Linear(2, 1), "cpu")
    with pytest.raises(OstrakonError, match=r"\(1,\) does not fit .* 3 parameters"):
        flat.load(torch.ones(1))


def test_a_buffer_in_two_places_stays_one_and_is_copied_only_once_it_was_written() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
            mask = torch.tensor([1.0, float("nan")])
            for layer in self.layers:
                layer.register_buffer("mask", mask, persistent=False)

    flat = FlatModel(Shared(), "cpu")
    mask = flat.module.layers[0].mask
    flat.load(flat.theta.clone())
    assert flat.module.layers[0].mask is mask
    assert not flat.state.written()
    flat.module.layers[1].mask[0] = 7
    assert len(flat.state.written()) == 1
    flat.load(flat.theta.clone())
    first, *others = (layer.mask for layer in flat.module.layers)
    assert first[0] == 1 and all(other is first for other in others)


def transposed() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    module[1].weight.data = module[0].weight.data.t()
    return module


def aliased() -> nn.Module:
    module = nn.Linear(3, 2)
    module.register_buffer("w", module.weight.data, persistent=False)
    return module


def complex_weight() -> nn.Module:
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
    return module


class Tuned(nn.Linear):
    def get_extra_state(self) -> object:
        return {"a": 1}


def test_parts_of_one_memory_that_do_not_overlap_are_fine() -> None:
    module, whole = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)), torch.randn(2, 3)
    for row in range(2):
        module[row].weight.data = whole[row : row + 1]
    assert FlatModel(module, "cpu").theta.equal(whole.flatten())


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), r"buffer 1\.running_mean.*GroupNorm"),
        (nn.Linear(2, 2).double(), r"parameter weight .* is float64"),
        (nn.ReLU(), r"ReLU has no parameters"),
        (nn.Linear(2, 2).requires_grad_(False), r"Linear requires a gradient"),
        (nn.LazyLinear(2), r"parameter weight .* has no shape yet"),
        (complex_weight(), r"complex64: models are float32, keep torch\.view_as_real"),
        (transposed(), r"0\.weight and 1\.weight .* share memory .* second\.weight = first\.weight"),
        (aliased(), r"w and weight|weight and w .* share memory"),
        (Tuned(2, 2), r"_extra_state .* is dict, which no model file can hold"),
        (nn.Linear(2, 2, device="meta"), r"weight .* is on the meta device"),
    ],
)
def test_a_module_that_theta_cannot_carry_is_refused(module: nn.Module, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        FlatModel(module, "cpu")


def test_counting_buffers_are_no_obstacle() -> None:
    module = nn.Linear(2, 1)
    module.register_buffer("calls", torch.zeros((), dtype=torch.int64))
    assert FlatModel(module, "cpu").parameters == 3
