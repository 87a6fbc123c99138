"""What an embedded worker reads out of a model and writes into it, and how it judges candidates."""

import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ostrakon import OstrakonError, Worker, write_initial
from ostrakon.common.algorithm import Step, momentum
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.model_file import read_model
from ostrakon.common.wire import Vector
from ostrakon.worker.embedded.judging import ballot_by_losses, ballot_unseen, check_criterion
from ostrakon.worker.embedded.model import ModuleModel, VectorModel, number, own_vector


class Tied(nn.Module):
    """Three uses of one matrix, a frozen layer and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.norm = nn.BatchNorm1d(3)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.frozen(self.first(x))))


def theta_of(d: int, start: float = 0.0) -> Vector:
    return np.arange(start, start + d, dtype=np.float32) / 8


def test_frozen_parameters_are_no_part_of_theta_and_tied_ones_count_once() -> None:
    model = ModuleModel(Tied(), 0.9)
    assert [name for name, _ in model.layout] == ["first.weight", "norm.weight", "norm.bias"]
    assert model.parameters == 9 + 3 + 3


def test_theta_is_written_into_the_parameters_where_and_what_they_are() -> None:
    module = Tied().bfloat16()
    before = [id(parameter) for parameter in module.parameters()]
    frozen = module.frozen.weight.clone()
    model = ModuleModel(module, 0.9)
    model.load(theta_of(model.parameters))
    assert [id(parameter) for parameter in module.parameters()] == before
    assert module.second.weight.tolist() == torch.from_numpy(theta_of(9)).view(3, 3).tolist()
    assert module.norm.weight.dtype == torch.bfloat16 and module.norm.weight.tolist() == [9 / 8, 10 / 8, 11 / 8]
    assert torch.equal(module.frozen.weight, frozen)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_of_any_float_type_are_folded_in_float32(kind: torch.dtype) -> None:
    module = nn.Linear(3, 1).to(kind)
    model = ModuleModel(module, 0.75)
    for factor in (1.0, 3.0):
        model.begin(theta_of(4))
        (module(torch.tensor([[1.0, 2.0, 4.0]], dtype=kind)).sum() * factor).backward()
        found = model.momentum(0.5)
    assert found.vector.dtype == np.float32 and found.loss == 0.5 and found.finite
    assert found.vector.tolist() == [0.75 * 0.25 * g + 0.25 * 3 * g for g in (1.0, 2.0, 4.0, 1.0)]


def test_the_momentum_is_bit_for_bit_that_of_the_built_in_worker() -> None:
    torch.manual_seed(3)
    one, other = nn.Linear(50, 7), nn.Linear(50, 7)
    embedded, flat = ModuleModel(one, 0.9), FlatModel(other, "cpu")
    expected = torch.zeros(flat.parameters)
    for round in range(5):
        theta = np.random.default_rng(round).standard_normal(flat.parameters).astype(np.float32)
        batch = torch.randn(16, 50)
        embedded.begin(theta)
        one(batch).square().mean().backward()
        flat.load(torch.from_numpy(theta))
        flat.zero_gradient()
        other(batch).square().mean().backward()
        momentum(expected, flat.gradient, 0.9)
        assert embedded.momentum(0.0).vector.tobytes() == expected.numpy().tobytes()


def test_a_round_begins_without_gradients_and_a_parameter_without_one_counts_as_zeros() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    model = ModuleModel(module, 0.0)
    model.begin(theta_of(6))
    module[1](torch.ones(1, 2)).sum().backward()
    assert model.momentum(0.0).vector.tolist() == [0, 0, 0, 1, 1, 1]
    model.begin(theta_of(6))
    assert all(parameter.grad is None for parameter in module.parameters())
    module[0](torch.ones(1, 2)).sum().backward()
    assert model.momentum(0.0).vector.tolist() == [1, 1, 1, 0, 0, 0]


def test_a_submission_without_any_gradient_is_refused() -> None:
    module = nn.Linear(2, 1)
    model = ModuleModel(module, 0.9)
    model.begin(theta_of(3))
    module(torch.ones(1, 2)).sum()
    with pytest.raises(OstrakonError, match=r"no parameter of the model has a gradient: call backward\(\) before"):
        model.momentum(0.0)


@pytest.mark.parametrize("change", ["another layer", "no longer frozen"])
def test_a_gradient_of_what_is_no_part_of_theta_is_refused(change: str) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1).requires_grad_(change == "another layer"))
    model = ModuleModel(module, 0.9)
    if change == "another layer":
        module[1] = nn.Linear(2, 1)
    else:
        module.requires_grad_(True)
    model.begin(theta_of(model.parameters))
    module(torch.ones(1, 2)).sum().backward()
    with pytest.raises(OstrakonError, match=r"parameter 1.weight of the model has a gradient and is no part of theta"):
        model.momentum(0.0)


def test_a_parameter_that_has_another_shape_is_refused() -> None:
    module = nn.Linear(2, 1)
    model = ModuleModel(module, 0.9)
    module.weight.data = torch.zeros(3, 2)
    with pytest.raises(OstrakonError, match=r"weight of the model has become \(3, 2\), it was \(1, 2\): change layers"):
        model.begin(theta_of(3))


@pytest.mark.parametrize("given", [2, 2.0, np.float32(2), torch.tensor(2.0), torch.tensor([2.0], requires_grad=True)])
def test_a_loss_is_a_number_or_a_tensor_of_one(given: Any, recwarn: pytest.WarningsRecorder) -> None:
    assert number(given) == 2.0
    assert not recwarn


def test_a_sparse_gradient_is_one_of_mostly_zeros() -> None:
    module = nn.Embedding(3, 2, sparse=True)
    model = ModuleModel(module, 0.0)
    model.begin(theta_of(6))
    module(torch.tensor([1])).sum().backward()
    assert model.momentum(0.0).vector.tolist() == [0, 0, 1, 1, 0, 0]


def test_a_gradient_that_is_not_finite_is_said_to_be_so_and_leaves_the_momentum_as_it_was() -> None:
    module = nn.Linear(1, 1)
    model = ModuleModel(module, 0.5)
    for factor in (1.0, math.inf):
        model.begin(theta_of(2))
        (module(torch.ones(1, 1)) * factor).sum().backward()
        found = model.momentum(0.0)
    assert not found.finite and found.vector.tolist() == [0.5, 0.5]


def test_a_candidate_is_tried_in_evaluation_mode_and_then_all_is_as_it_was() -> None:
    module = Tied()
    module.norm.eval()  # a loop may have frozen it
    model = ModuleModel(module, 0.9)
    model.begin(theta_of(model.parameters))
    module(torch.randn(8, 3)).sum().backward()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    gradient = module.norm.weight.grad
    with pytest.raises(ZeroDivisionError), model.trying(theta_of(model.parameters, 1.0)):
        assert not module.training and not torch.is_grad_enabled()
        assert module.first.weight[0, 0] == 1 / 8
        module.train()
        module(torch.randn(8, 3))
        raise ZeroDivisionError
    assert module.training and not module.norm.training and torch.is_grad_enabled()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.norm.weight.grad is gradient


@pytest.mark.parametrize(
    ("inner", "outer", "choice"),
    [(1.0, 2.0, "inner"), (2.0, 1.0, "outer"), (1.0, 1.0, "inner"), (math.nan, 5.0, "outer"), (5.0, math.nan, "inner")],
)
def test_the_smaller_loss_wins_and_one_that_is_no_number_loses(inner: float, outer: float, choice: str) -> None:
    losses = {1.0: inner, 2.0: outer}
    ballot = ballot_by_losses(
        VectorModel(1), lambda theta: losses[theta[0]], np.array([1], np.float32), np.array([2], np.float32)
    )
    assert ballot.choice == choice
    assert [ballot.inner_loss, ballot.outer_loss] == pytest.approx([inner, outer], nan_ok=True)


def test_both_candidates_are_judged_with_the_same_random_numbers_which_do_not_come_again() -> None:
    drawn: list[list[float]] = []

    def noise(theta: Vector) -> float:
        drawn.append([torch.rand(1).item(), np.random.random(), random.random()])
        return 0.0

    for _ in range(2):
        ballot_by_losses(VectorModel(1), noise, theta_of(1), theta_of(1))
    assert drawn[0] == drawn[1] and drawn[2] == drawn[3]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))


def test_proximity_votes_for_the_aggregate_that_is_nearer_to_what_was_sent() -> None:
    theta, inner, outer = (np.array([x], np.float32) for x in (0.0, -1.0, -3.0))  # R = 1, Q = 3
    for sent, choice in ((1.5, "inner"), (2.5, "outer")):
        vector = np.array([sent], np.float32)
        assert ballot_unseen("proximity", vector, theta, Step(1.0), inner, outer).choice == choice
    assert ballot_unseen("proximity", None, theta, Step(1.0), inner, outer).choice == "inner"
    assert ballot_unseen("outer", None, theta, Step(1.0), inner, outer).choice == "outer"


def test_theta_0_of_a_module_has_no_running_statistics_and_all_else(tmp_path: Path) -> None:
    module = Tied().half()
    write_initial(module, tmp_path / "model.safetensors")
    found = read_model(tmp_path / "model.safetensors")
    model = ModuleModel(module, 0.9)
    assert found.layout == model.layout and found.metadata["task"] == "own"
    assert found.fixed.digest() == model.constants
    assert {one.name for one in found.fixed.constants} == {"frozen.weight", "frozen.bias"}
    module(torch.randn(8, 3).half())  # which moves the statistics
    assert ModuleModel(module, 0.9).constants == model.constants
    model.load(found.theta)
    assert torch.equal(module.first.weight, torch.from_numpy(found.theta[:9]).view(3, 3))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros(2), r"shape \(2,\): expected \(3,\), one for each parameter$"),
        (torch.tensor(0.3, requires_grad=True), r"shape \(\): .*; the loss of the mini-batch is submit\(loss=...\)"),
        ("text", "no vector of numbers"),
        (object(), "no vector of numbers"),
    ],
)
def test_what_is_no_vector_of_theirs_is_refused(given: Any, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        own_vector(given, 3, 0.0)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_loop_that_writes_to_a_candidate_changes_no_other() -> None:
    inner, outer = np.zeros(2, np.float32), np.full(2, 2, np.float32)

    def scaled(theta: np.ndarray) -> float:
        return float(torch.from_numpy(theta).mul_(10).sub_(1).abs().sum())

    assert ballot_by_losses(VectorModel(2), scaled, inner, outer).choice == "inner"
    assert (inner.tolist(), outer.tolist()) == ([0, 0], [2, 2])


def test_a_vector_of_ones_own_is_copied() -> None:
    values = np.ones(3)
    sent = own_vector(values, 3, 0.0)
    values[:] = 2
    assert sent.vector.tolist() == [1, 1, 1] and sent.vector.dtype == np.float32
    assert not own_vector(torch.tensor([1, math.nan, 1]), 3, 0.0).finite


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: Worker(server="h:1"), "needs a model, which is a torch.nn.Module, or without one parameters"),
        (lambda: Worker(nn.Linear(1, 1), parameters=2, server="h:1"), "needs a model, which is"),
        (lambda: Worker(5, server="h:1"), "needs a model, which is a torch.nn.Module"),  # type: ignore[arg-type]
        (lambda: Worker(nn.Linear(1, 1), server="nowhere"), "Worker: setting server = 'nowhere' cannot be used"),
        (lambda: Worker(nn.Linear(1, 1), server="http://h:1"), "server = .http://h:1. cannot be used.*HOST:PORT"),
        (lambda: Worker(nn.Linear(1, 1), server="h:1", tls={"ca": "a"}), "Worker: setting tls.certificate is missing"),
        (lambda: Worker([nn.Linear(1, 1)], server="h:1"), "needs a model, which is a torch.nn.Module"),  # type: ignore[arg-type]
        (lambda: number(torch.ones(2)), "submit was given a Tensor as loss: expected one number"),
        (lambda: Worker(nn.ReLU(), server="h:1"), "the model ReLU has no parameters"),
        (lambda: Worker(nn.LazyLinear(1), server="h:1"), "parameter weight of the model has no shape yet"),
        (lambda: Worker(parameters=1, server="h:1").position, "has not joined the run"),
        (lambda: check_criterion("los"), r"vote\('los'\) means nothing"),  # type: ignore[arg-type]
        (lambda: VectorModel(1).momentum(0.0), "give submit a vector"),
        (lambda: ballot_by_losses(VectorModel(1), lambda theta: None, theta_of(1), theta_of(1)), "returned a NoneType"),
        (lambda: write_initial(np.array([math.nan]), "/nowhere"), "not finite"),
        (
            lambda: write_initial("theta", "/nowhere"),
            "was given a str: expected a torch module, or theta_0",
        ),
        (
            lambda: write_initial(np.ones((2, 2)), "/nowhere"),
            r"shape \(2, 2\), torch.float64: expected",
        ),
        (lambda: write_initial([], "/nowhere"), r"given values of shape \(0,\)"),
        (lambda: write_initial([1j], "/nowhere"), "complex64: expected"),
        (lambda: Worker(parameters=1, server="h:1", tls="certificates"), "Worker: setting tls"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_used_is_a_sentence(made: Any, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        made()


def test_grpc_is_quiet_in_a_loop_of_ones_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRPC_ENABLE_FORK_SUPPORT", "GRPC_VERBOSITY"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    with (
        pytest.raises(OstrakonError, match="no answer from the server"),
        Worker(parameters=1, server="127.0.0.1:1", id="a", server_timeout=0.01),
    ):
        raise AssertionError("nobody is there")
    assert (os.environ["GRPC_ENABLE_FORK_SUPPORT"], os.environ["GRPC_VERBOSITY"]) == ("0", "NONE")
