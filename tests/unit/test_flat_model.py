"""FlatModel: one vector of parameters, one of gradients, and a module that sees both."""

import pytest
import torch
from torch import nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel


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


def test_a_frozen_parameter_is_held_and_gets_no_gradient() -> None:
    module = nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    flat = FlatModel(module, "cpu")
    flat.module(torch.ones(1, 2)).sum().backward()
    assert flat.gradient.tolist() == [1, 1, 0]


def test_a_model_of_another_task_is_refused() -> None:
    flat = FlatModel(nn.Linear(2, 1), "cpu")
    with pytest.raises(OstrakonError, match=r"\(1,\) does not fit .* 3 parameters"):
        flat.load(torch.ones(1))


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), r"buffer 1\.running_mean.*GroupNorm"),
        (nn.Linear(2, 2).double(), r"parameter weight .* is float64"),
        (nn.ReLU(), r"ReLU has no parameters"),
        (nn.LazyLinear(2), r"parameter weight .* has no shape yet"),
    ],
)
def test_a_module_that_theta_cannot_carry_is_refused(module: nn.Module, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        FlatModel(module, "cpu")


def test_counting_buffers_are_no_obstacle() -> None:
    module = nn.Linear(2, 1)
    module.register_buffer("calls", torch.zeros((), dtype=torch.int64))
    assert FlatModel(module, "cpu").parameters == 3
