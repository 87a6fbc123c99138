"""A rehearsal: what cannot work in a run is a sentence before there is one."""

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks import data
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.data import DataNotReadable, check_alike, flipped, worker_data
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.rehearsal import TEST_BLOCK, rehearse
from tests.unit.small_task import SmallTask


def rehearsed(task: Task, **changes: Any) -> None:
    model = FlatModel(initial_model(task, 1), "cpu")
    before = model.theta.clone()
    training, test = worker_data(task, 0, 3, 1), data.test_data(task, 1)
    rehearse(task, model, seed=1, **{"training": training, "test": test, **changes})
    assert torch.equal(model.theta, before)


class OneOf(SmallTask):
    """The small task with a method that a test replaces."""

    def __init__(self, **methods: Any) -> None:
        super().__init__()
        for name, method in methods.items():
            setattr(self, name, method)


class Wrapped(nn.Module):
    """A linear model whose input goes through a function first."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(x))


def test_a_task_that_works_is_rehearsed_without_a_word() -> None:
    rehearsed(SmallTask())
    rehearsed(OneOf(model=lambda: Wrapped(lambda x: x + torch.rand(1) + random.random() + np.random.rand())))


def test_a_last_block_of_one_example_is_rehearsed_too() -> None:
    task = OneOf(losses=lambda o, y: (o.sum(dim=1).squeeze() - y.squeeze()) ** 2)
    one_more = Examples(torch.randn(TEST_BLOCK + 1, 8), torch.zeros(TEST_BLOCK + 1, dtype=torch.int64))
    with pytest.raises(OstrakonError, match=r"losses returned float32 \(\) .* int64 \(1,\)"):
        rehearsed(task, test=one_more)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_what_depends_on_earlier_calls_is_refused(mode: str) -> None:
    calls = itertools.count()
    module = Wrapped(lambda x: x * next(calls) if module.training == (mode == "training") else x)
    with pytest.raises(OstrakonError, match="nothing that an earlier call left behind"):
        rehearsed(OneOf(model=lambda: module))


def test_random_numbers_from_a_generator_of_its_own_are_refused() -> None:
    with pytest.raises(OstrakonError, match="global generators of torch, numpy or random only"):
        rehearsed(OneOf(model=lambda: Wrapped(lambda x: x * float(np.random.default_rng().random()))))


class Buffered(nn.Module):
    """Writes into a buffer in each pass, and may compute with it."""

    def __init__(self, initial: Tensor, used: bool) -> None:
        super().__init__()
        self.linear, self.used = nn.Linear(8, 3), used
        self.register_buffer("count", initial, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.linear(x * self.count if self.used else x)


def test_a_counter_that_nothing_depends_on_is_fine_and_one_that_matters_is_refused() -> None:
    rehearsed(OneOf(model=lambda: Buffered(torch.tensor(0), used=False)))
    with pytest.raises(OstrakonError, match="nothing that an earlier call left behind"):
        rehearsed(OneOf(model=lambda: Buffered(torch.tensor(0), used=True)))
    with pytest.raises(OstrakonError, match="writes into a floating-point buffer"):
        rehearsed(OneOf(model=lambda: Buffered(torch.tensor(0.0), used=False)))


class Cached(nn.Module):
    """Normalises its weights in training, and takes what it cached then in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.cache = nn.Linear(8, 3), None

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.cache is None:
            self.cache = nn.functional.normalize(self.linear.weight, dim=1)
        return nn.functional.linear(x, self.cache if self.training else self.cache.detach())


class Statistics(nn.Module):
    """BatchNorm by hand, its running mean in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.mean = nn.Linear(8, 3), torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=0)
            return self.linear(x - x.mean(dim=0))
        return self.linear(x - self.mean)


class Merging(nn.Module):
    """Low-rank adaptation that train() and eval() merge into a frozen weight; the product is 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 3).requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.zeros(3, 2))
        self.merged = False

    def train(self, mode: bool = True) -> "Merging":
        super().train(mode)
        if mode == self.merged:
            self.base.weight.data += (-1 if mode else 1) * (self.b @ self.a).detach()
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + (0 if self.merged else x @ self.a.t() @ self.b.t())


@pytest.mark.parametrize("build", [Cached, Statistics, Merging])
def test_what_goes_from_training_to_evaluation_or_from_one_model_to_the_next_is_refused(build: Any) -> None:
    with pytest.raises(OstrakonError, match="nothing that an earlier call left behind"):
        rehearsed(OneOf(model=build))


class Lazy(nn.Module):
    """Makes its last layer when it sees what comes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 4), None

    def forward(self, x: Tensor) -> Tensor:
        if self.head is None:
            self.head = nn.Linear(4, 3)
        return self.head(self.first(x))


class Replacing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.weight = nn.Parameter(self.weight.clamp(-0.1, 0.1))
        return super().forward(x)


class Fitting(nn.Linear):
    def train(self, loader: Any = None, epochs: int = 10) -> None:  # type: ignore[override]
        """As in a tutorial."""


class Half(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).bfloat16()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (Lazy, r"parameter head\.(bias|weight) .* appears in forward: make it once, in __init__"),
        (lambda: Replacing(8, 3), r"replaces its parameter weight in forward: .* torch\.no_grad"),
        (lambda: Fitting(8, 3), r"Fitting\.train is not torch's"),
        (lambda: Half(8, 3), r"losses returned bfloat16 .*outputs\.float\(\)"),
        (lambda: nn.Linear, r"model returned a type: .* write Linear\(\)"),
    ],
)
def test_models_that_theta_does_not_drive_are_refused(build: Any, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        rehearsed(OneOf(model=build))


def test_losses_that_touch_no_parameter_are_refused() -> None:
    with pytest.raises(OstrakonError, match="gradient of the losses is zero for every parameter"):
        rehearsed(OneOf(losses=lambda o, y: torch.zeros(len(y), requires_grad=True) + 0))


def test_labels_that_torch_spreads_over_outputs_are_refused_where_the_loss_hides_it() -> None:
    def losses(outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs[:, :1], labels.float(), reduction="none").mean(dim=1)

    with pytest.raises(OstrakonError, match=r"Using a target size \(torch\.Size\(\[16\]\)\)"):
        rehearsed(OneOf(losses=losses))


def test_constants_are_welcome_in_any_buffer() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 3)
            self.register_buffer("positions", torch.arange(8).float().sin())
            self.register_buffer("adjacent", torch.eye(8).to_sparse(), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(torch.sparse.mm(self.adjacent, (x + self.positions).t()).t())

    rehearsed(OneOf(model=Positions))


def test_frozen_parameters_that_a_pass_changes_are_refused() -> None:
    def drift(x: Tensor) -> Tensor:
        with torch.no_grad():
            module.linear.bias.add_(1)
        return x

    module = Wrapped(drift)
    module.linear.bias.requires_grad_(False)
    with pytest.raises(OstrakonError, match=r"writes into its parameter linear\.bias, which requires no gradient"):
        rehearsed(OneOf(model=lambda: module))


def test_labels_are_flipped_as_the_task_says_or_a_sentence_says_what_is_missing() -> None:
    class NoClasses(Task):
        model = SmallTask.model  # type: ignore[assignment]
        worker_data = SmallTask.worker_data  # type: ignore[assignment]
        test_data = SmallTask.test_data  # type: ignore[assignment]

    examples = worker_data(SmallTask(), 0, 3, 1)
    assert flipped(SmallTask(), examples, 0, 1).labels.tolist() == [2 - y for y in examples.labels.tolist()]
    with pytest.raises(OstrakonError, match=r"NoClasses has no number of `classes`: set classes = K, or define `flip`"):
        flipped(NoClasses(), examples, 0, 1)
    with pytest.raises(OstrakonError, match=r"flip made float32 \(100,\) of int64 \(100,\) labels"):
        flipped(OneOf(flip=lambda y: y.float()), examples, 0, 1)
    flipped(OneOf(flip=lambda y: y.zero_()), examples, 0, 1)
    ignored = Examples(examples.inputs[:3], torch.tensor([-100, 0, 2]))
    assert flipped(SmallTask(), ignored, 0, 1).labels.tolist() == [-100, 2, 0]
    for labels in (torch.rand(3), torch.tensor([True, False, True])):
        with pytest.raises(OstrakonError, match=r"means nothing for (float32|bool) \(3,\) labels: define `flip`"):
            flipped(SmallTask(), Examples(ignored.inputs, labels), 0, 1)
    assert examples.labels.any()


def test_training_and_test_data_have_to_be_of_one_kind() -> None:
    one = Examples(torch.ones(2, 8), torch.zeros(2, dtype=torch.int64))
    check_alike(one, one)
    with pytest.raises(OstrakonError, match=r"gives inputs float32 \(2, 8\), test_data float32 \(2, 1, 8\)"):
        check_alike(one, Examples(torch.ones(2, 1, 8), one.labels))
    with pytest.raises(OstrakonError, match=r"gives labels int64 \(2,\), test_data float32 \(2,\)"):
        check_alike(one, Examples(one.inputs, torch.ones(2)))


def raising(error: BaseException) -> Any:
    def method(*_: Any) -> Any:
        raise error

    return method


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "No such file", "x.csv"), ValueError("x is no number"), OstrakonError("no x"), KeyError("x")],
)
def test_data_that_cannot_be_read_may_be_readable_later(error: Exception) -> None:
    with pytest.raises(DataNotReadable, match="x"):
        worker_data(OneOf(worker_data=raising(error)), 0, 3, 1)


@pytest.mark.parametrize("error", [NameError("x"), TypeError("x"), AttributeError("x"), ImportError("x")])
def test_code_that_is_wrong_will_not_be_right_later(error: Exception) -> None:
    with pytest.raises(OstrakonError, match=rf"worker_data: {type(error).__name__}: x \(.*test_rehearsal\.py") as found:
        worker_data(OneOf(worker_data=raising(error)), 0, 3, 1)
    assert not isinstance(found.value, DataNotReadable)


def test_examples_that_break_the_contract_are_no_matter_of_files() -> None:
    def doubles(*_: Any) -> Examples:
        return Examples(torch.ones(3, 8).double(), torch.zeros(3))

    with pytest.raises(OstrakonError, match=r"worker_data: inputs are float64.* \(.*test_rehearsal\.py, line") as found:
        worker_data(OneOf(worker_data=doubles), 0, 3, 1)
    assert not isinstance(found.value, DataNotReadable)


def test_what_is_no_examples_is_refused() -> None:
    with pytest.raises(OstrakonError, match=r"worker_data returned a tuple: expected Examples"):
        worker_data(OneOf(worker_data=lambda *_: (torch.ones(1), torch.ones(1))), 0, 3, 1)


def test_data_drawn_from_global_generators_follow_from_the_seed_and_the_worker() -> None:
    def draw(*_: Any) -> Examples:
        inputs = torch.rand(4, 8) + torch.from_numpy(np.random.rand(4, 8)).float() + random.random()
        return Examples(inputs, torch.zeros(4, dtype=torch.int64))

    task = OneOf(worker_data=draw, test_data=draw)
    first = worker_data(task, 0, 3, 1).inputs
    others = [worker_data(task, 1, 3, 1), worker_data(task, 0, 3, 2), data.test_data(task, 1)]
    assert torch.equal(first, worker_data(task, 0, 3, 1).inputs)
    assert not any(torch.equal(first, other.inputs) for other in others)
