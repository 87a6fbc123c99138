"""What a user's code cannot spoil: each pass has its own batch, its own seed, and the model that it was given."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.passes import Draw, Passes, initial_model
from ostrakon.worker.evaluator.measure import measure
from ostrakon.worker.training import Training
from ostrakon.worker.voting import Voter

M, FEATURES, CLASSES = 24, 16, 3


class Modelled(Task):
    """Three classes of 16 inputs, and whatever model a test wants."""

    classes = CLASSES

    def __init__(self, build: Callable[[], nn.Module], inputs: Tensor | None = None) -> None:
        super().__init__()
        self.build = build
        self.inputs = torch.randn(M, FEATURES, generator=torch.Generator().manual_seed(3)) if inputs is None else inputs

    def model(self) -> nn.Module:
        return self.build()

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return Examples(self.inputs.clone(), torch.arange(M) % CLASSES)

    def test_data(self, seed: int) -> Examples:
        return self.worker_data(0, 1, seed)


class Function(nn.Module):
    """Linear layers with a function of the input in front."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.function(x))


def two_layers(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), *between, nn.Linear(8, CLASSES))


def images(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), *layers, nn.Flatten(), nn.LazyLinear(CLASSES))


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """Give lazy layers their sizes."""
    module = build()
    module.eval()
    with torch.no_grad():
        module(torch.zeros(2, FEATURES))
    return module


class Sequence(nn.Module):
    """A recurrent layer over four steps of four features."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.layer, self.last = kind(4, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x.view(-1, 4, 4))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x.view(-1, 4, 4)).mean(dim=1))


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "in-place ReLU": lambda: two_layers(nn.ReLU(inplace=True)),
    "in-place ReLU first": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATURES, CLASSES)),
    "in-place everything": lambda: two_layers(nn.Hardtanh(inplace=True), nn.SiLU(inplace=True), nn.ELU(inplace=True)),
    "in-place dropout first": lambda: nn.Sequential(nn.Dropout(0.5, inplace=True), nn.Linear(FEATURES, CLASSES)),
    "dropout": lambda: two_layers(nn.Dropout(0.5)),
    "alpha dropout": lambda: two_layers(nn.SELU(), nn.AlphaDropout(0.3)),
    "RReLU": lambda: two_layers(nn.RReLU()),
    "norms": lambda: two_layers(nn.LayerNorm(8), nn.GroupNorm(2, 8)),
    "batch norm without statistics": lambda: two_layers(nn.BatchNorm1d(8, track_running_stats=False)),
    "convolution": lambda: images(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
    "pooling": lambda: images(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Dropout2d(0.2)),
    "fractional pooling": lambda: images(nn.Conv2d(1, 4, 1), nn.FractionalMaxPool2d(2, output_size=2)),
    "upsampling": lambda: images(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 2, 3)),
    "LSTM": lambda: Sequence(nn.LSTM),
    "GRU": lambda: Sequence(nn.GRU),
    "attention": Attention,
    "a view": lambda: Function(lambda x: x.view(-1, FEATURES)),
    "writes into its input": lambda: Function(lambda x: x.sub_(0.5).div_(0.5)),
    "writes through a view of its input": lambda: Function(lambda x: x[:, :4].zero_() is None or x),
    "torch's noise": lambda: Function(lambda x: x + torch.randn_like(x)),
    "numpy's noise": lambda: Function(lambda x: x + torch.from_numpy(np.random.randn(*x.shape)).float()),
    "Python's noise": lambda: Function(lambda x: x * random.random()),
}


def flat(task: Task) -> FlatModel:
    return FlatModel(made(lambda: initial_model(task, 1)), "cpu")


def worker(task: Task, worker: int = 0) -> tuple[FlatModel, Training, Voter]:
    """What a worker computes with: small batches, or all examples at once where there are no more."""
    model, examples = flat(task), task.worker_data(worker, 3, 1)
    training = Training(task, examples, model, batch=8, beta=0.5, seed=1, worker=worker)
    return model, training, Voter(task, examples, model, batch=100, seed=1, worker=worker)


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_one_model_as_both_candidates_has_one_loss_bit_for_bit(build: Callable[[], nn.Module]) -> None:
    model, training, voter = worker(Modelled(build))
    theta = model.theta.numpy().copy()
    for round in (1, 2):
        ballot = voter.judge(round, theta, theta.copy())
        assert ballot.inner_loss == ballot.outer_loss
        assert ballot.choice == "inner"
        training.momentum(round, "base", theta)


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_rounds_and_votes_follow_from_the_seed_and_from_nothing_done_before(build: Callable[[], nn.Module]) -> None:
    model, training, voter = worker(Modelled(build))
    theta = model.theta.numpy().copy()
    for round in range(1, 4):
        training.momentum(round, "base", theta)
        voter.judge(round, theta, -theta)
    for disturb in (torch.manual_seed, np.random.seed, random.seed):
        disturb(99)
    _, again, voter_again = worker(Modelled(build))
    np.testing.assert_array_equal(_gradient(training, 4, theta), _gradient(again, 4, theta))
    assert voter.judge(4, theta, -theta) == voter_again.judge(4, theta, -theta)


def _gradient(training: Training, round: int, theta: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    training.momentum(round, "the same base", theta)
    return training._passes.model.gradient.numpy().copy()


def test_a_model_that_writes_into_its_input_computes_what_it_would_out_of_place() -> None:
    ways = (lambda x: x.sub_(0.5).div_(0.5), lambda x: (x - 0.5) / 0.5)
    (_, writing, votes), (_, reading, same_votes) = (worker(Modelled(partial(Function, way))) for way in ways)
    theta = writing._passes.model.theta.numpy().copy()
    for round in range(1, 6):
        found = [one.momentum(round, "base", theta) for one in (writing, reading)]
        assert found[0].loss == found[1].loss
        np.testing.assert_array_equal(found[0].vector, found[1].vector)
        assert votes.judge(round, theta, -theta) == same_votes.judge(round, theta, -theta)


def test_whatever_passes_write_into_the_data_stay_as_they_were() -> None:
    class Vandal(Modelled):
        def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
            found = super().losses(outputs, labels.clone())
            labels.zero_()
            return found

        def correct(self, outputs: Tensor, labels: Tensor) -> Tensor:
            found = super().correct(outputs, labels)
            outputs.zero_()
            labels.fill_(2)
            return found

    task = Vandal(lambda: Function(lambda x: x.mul_(3)))
    model, examples = flat(task), task.worker_data(0, 1, 1)
    theta, kept = model.theta.numpy().copy(), examples.copy()
    training = Training(task, examples, model, batch=100, beta=0.9, seed=1, worker=0)
    voter = Voter(task, examples, model, batch=100, seed=1, worker=0)
    first = measure(task, model, theta, examples)
    for round in (1, 2, 3):
        training.momentum(round, "base", theta)
        voter.judge(round, theta, -theta)
        assert measure(task, model, theta, examples) == first
    assert torch.equal(examples.inputs, kept.inputs) and torch.equal(examples.labels, kept.labels)


def test_losses_that_write_into_outputs_do_not_change_what_is_counted_as_correct() -> None:
    class Spoils(Modelled):
        def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
            found = super().losses(outputs, labels)
            with torch.no_grad():
                outputs.neg_()
            return found

    honest, spoils = Modelled(two_layers), Spoils(two_layers)
    model = flat(honest)
    theta, examples = model.theta.numpy().copy(), honest.test_data(1)
    assert measure(spoils, model, theta, examples) == measure(honest, model, theta, examples)


def test_every_worker_round_and_purpose_has_masks_of_its_own() -> None:
    masks = []
    task = Modelled(lambda: Function(lambda x: masks.append(torch.rand(4).tolist()) or x))
    passes = Passes(task, flat(task))
    masks.clear()
    batch = task.test_data(1)
    draws = [Draw(1, 10, 0, 1), Draw(2, 10, 0, 1), Draw(1, 11, 0, 1), Draw(1, 10, 1, 1), Draw(1, 10, 0, 2)]
    for draw in [*draws, *draws]:
        passes.loss(passes.model.theta.clone(), batch, draw)
    assert masks[:5] == masks[5:]
    assert len({tuple(mask) for mask in masks}) == 5


def test_a_forward_that_turns_gradients_off_for_the_process_does_not_stop_training() -> None:
    task = Modelled(two_layers)
    _, training, _ = worker(task)
    torch.set_grad_enabled(False)
    try:
        assert training.momentum(1, "base", flat(task).theta.numpy()).vector.any()
    finally:
        torch.set_grad_enabled(True)


class Answering(Modelled):
    """Whose `losses`, `correct` or model are what a test says."""

    def __init__(self, losses: Any = None, correct: Any = None, outputs: int = CLASSES) -> None:
        super().__init__(lambda: nn.Linear(FEATURES, outputs))
        self.replaced = losses, correct

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.replaced[0](outputs, labels) if self.replaced[0] else super().losses(outputs, labels)

    def correct(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.replaced[1](outputs, labels) if self.replaced[1] else super().correct(outputs, labels)


CE = nn.functional.cross_entropy
BROKEN = {
    "one number": (Answering(CE), r"losses returned float32 \(\) for outputs float32 \(24, 3\) .*reduction='none'"),
    "a column": (Answering(lambda o, y: CE(o, y, reduction="none")[:, None]), r"float32 \(24, 1\).*squeeze\(1\)"),
    "spread": (
        Answering(lambda o, y: (o - y.float()) ** 2, outputs=1),
        r"float32 \(24, 24\) for outputs float32 \(24, 1\) and labels int64 \(24,\).*write outputs\[:, 0\]",
    ),
    "per token": (Answering(lambda o, y: o.square()), r"float32 \(24, 3\).*flatten\(1\)\.mean\(dim=1\)"),
    "tokens in a row": (Answering(lambda o, y: o.square().view(-1)), r"float32 \(72,\).*view\(24, -1\)\.mean\(dim=1\)"),
    "an array": (Answering(lambda o, y: o.detach().sum(1).numpy()), r"losses returned ndarray .*return a tensor"),
    "integers": (Answering(lambda o, y: y), r"losses returned int64 \(24,\)"),
    "no graph": (Answering(lambda o, y: o.detach().sum(1)), r"do not depend on the model's parameters .*detach"),
    "nothing": (Answering(lambda o, y: None), r"losses returned NoneType"),
    "a label that is no class": (Answering(outputs=2), r"losses: IndexError: Target 2 is out of bounds"),
    "it raises": (
        Answering(lambda o, y: 1 / 0),
        r"task Answering: losses: ZeroDivisionError: .* \(.*test_passes\.py, line",
    ),
    "it exits": (Answering(lambda o, y: exit(3)), r"losses: the code ends the process, with status 3"),
    "correct spreads": (
        Answering(correct=lambda o, y: o.argmax(1, keepdim=True) == y),
        r"correct returned bool \(24, 24\) for outputs .* and labels int64 \(24,\): expected bool \(24,\)",
    ),
    "correct per token": (
        Answering(correct=lambda o, y: o > y[:, None]),
        r"correct returned bool \(24, 3\).*flatten\(1\)\.all\(dim=1\)",
    ),
    "correct is a number": (Answering(correct=lambda o, y: 0.5), r"correct returned float"),
    "correct scores": (Answering(correct=lambda o, y: o[:, 0]), r"correct returned float32 \(24,\).*write > 0"),
}


@pytest.mark.parametrize(("task", "sentence"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_the_contract_is_a_sentence_that_says_what_to_write(task: Answering, sentence: str) -> None:
    passes, batch = Passes(task, FlatModel(task.model(), "cpu")), task.test_data(1)
    theta = passes.model.theta.clone()
    with pytest.raises(OstrakonError, match=sentence):
        passes.gradient(theta, batch, Draw(1, 10))
        passes.answers(theta, batch, Draw(1, 10))


def test_regression_with_a_column_of_outputs_is_fine_if_it_is_said() -> None:
    task = Answering(lambda o, y: (o[:, 0] - y) ** 2, lambda o, y: (o[:, 0] - y).abs() < 1, outputs=1)
    passes = Passes(task, FlatModel(task.model(), "cpu"))
    assert passes.answers(passes.model.theta.clone(), task.test_data(1), Draw(1, 10))[1].dtype == torch.bool


def test_a_model_may_return_more_than_one_tensor_to_losses_that_take_them() -> None:
    class Two(Answering):
        def model(self) -> nn.Module:
            module = nn.Linear(FEATURES, CLASSES)
            module.register_forward_hook(lambda _, __, scores: {"scores": scores, "more": scores * 2})
            return module

    def losses(outputs: Any, labels: Tensor) -> Tensor:
        found = CE(outputs["scores"], labels, reduction="none")
        if not torch.is_grad_enabled():
            outputs["scores"].zero_()
        return found

    task = Two(losses, lambda o, y: o["scores"].argmax(1) == y)
    passes, batch = Passes(task, FlatModel(task.model(), "cpu")), task.test_data(1)
    theta = passes.model.theta.clone()
    answers = passes.answers(theta, batch, Draw(1, 10))[1]
    loss = passes.gradient(theta, batch, Draw(1, 10))
    with torch.no_grad():
        scores = passes.model.module(batch.inputs)["scores"]
    assert torch.equal(answers, scores.argmax(1) == batch.labels)
    assert loss == pytest.approx(CE(scores, batch.labels).item())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Examples(np.ones((3, 2)), torch.ones(3)), r"inputs are a numpy\.ndarray: .*torch\.from_numpy"),  # type: ignore[arg-type]
        (lambda: Examples(torch.ones(3, 2), [1, 2, 3]), r"labels are a list: .*torch\.tensor"),  # type: ignore[arg-type]
        (lambda: Examples(torch.ones(3, 2).double(), torch.ones(3)), r"inputs are float64.*inputs\.float\(\)"),
        (lambda: Examples(torch.ones(3, 2), torch.ones(3).double()), r"labels are float64.*labels\.float\(\)"),
        (lambda: Examples(torch.ones(3, 2, requires_grad=True) * 2, torch.ones(3)), r"inputs .*inputs\.detach\(\)"),
        (lambda: Examples(torch.ones(3, 2), torch.tensor(1.0)), r"labels are one number"),
        (lambda: Examples(torch.ones(3, 2).to_sparse(), torch.ones(3)), r"inputs\.to_dense\(\)"),
    ],
)
def test_examples_that_no_model_takes_are_refused_where_they_are_made(make: Any, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        make()


def test_the_default_loss_says_what_labels_it_takes() -> None:
    task = Answering()
    with pytest.raises(OstrakonError, match=r"takes int64 labels, not int32 \(24,\): write labels\.long\(\)"):
        task.losses(torch.ones(M, CLASSES), torch.zeros(M, dtype=torch.int32))
    with pytest.raises(OstrakonError, match=r"not outputs float32 \(24, 1, 3\) and labels int64 \(24,\)"):
        task.losses(torch.ones(M, 1, CLASSES), torch.zeros(M, dtype=torch.int64))
