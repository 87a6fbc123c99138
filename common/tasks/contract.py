"""What a task is: a model, a worker's own examples, common test data and a loss."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError


class ContractBroken(OstrakonError):
    """What a task gave, or was given, is not what its contract says."""


@dataclass(frozen=True)
class Examples:
    """m examples: `inputs` (m, ...) in whatever form the model takes, `labels` (m, ...) in the same order.

    The memory layout of the inputs is kept: images that are laid out channels last reach the model so.

    Raises:
        ContractBroken: there is no example, not one label for each input, or these are no tensors that a model and a
            loss can be given.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, values in (("inputs", self.inputs), ("labels", self.labels)):
            _check_tensor(name, values)
            if values.dtype == torch.float64:
                raise ContractBroken(f"{name} are float64, models are float32: write {name}.float()")
        if len(self.inputs) != len(self.labels):
            raise ContractBroken(
                f"{len(self.inputs)} inputs came with {len(self.labels)} labels: give one label for each input"
            )
        if len(self.labels) == 0:
            raise ContractBroken("a task gave no examples: every worker and the test set need at least one")

    def __len__(self) -> int:
        return len(self.labels)

    def copy(self) -> "Examples":
        """The same examples in memory of their own, laid out as these are."""
        return Examples(self.inputs.clone(), self.labels.clone())


class Task(ABC):
    """What is learned. Subclass it and name it as `package.module:MyTask`.

    A task of classes sets `classes` and writes `model`, `worker_data` and `test_data`. A regression task also
    overrides `losses` (squared error, say), `correct` (within a tolerance) and `flip` (the negative target), and
    leaves `classes` out.

    Every draw must follow from the arguments, or come from torch's, numpy's or Python's global generators, which are
    seeded before each method is called: two processes that call a method with the same arguments get the same tensors.
    Tensors are made on the CPU; the caller moves them. Each batch that a method or the model is handed is its own to
    write into.

    Args:
        data: file or folder given in the settings, for tasks that read one. What else a task can be told in the
            settings, its options, are further parameters with names and defaults: `def __init__(self, data=None, *,
            noise=0.1)`, and super().__init__(data).
    """

    classes: ClassVar[int]

    def __init__(self, data: Path | None = None) -> None:
        self.data = data

    def __str__(self) -> str:
        """What is learned from which data, for headings."""
        return type(self).__name__

    @abstractmethod
    def model(self) -> nn.Module:
        """The untrained model, float32, drawn from torch's global generator; see `initial_model`."""

    @abstractmethod
    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        """The examples that worker number `worker` (from 0) of `workers` trains on, its own and nobody else's.

        Its votes are on mini-batches of them too. Where the task has `batches`, they are for the votes alone.
        """

    @abstractmethod
    def test_data(self, seed: int) -> Examples:
        """The examples on which committed models are measured, none of which a worker holds."""

    def worker_test_data(self, worker: int, workers: int, seed: int) -> Examples:
        """The test set of worker number `worker`, from the distribution of its own examples; `test_data` by default.

        Experiments report the mean over the workers of the accuracy on it.
        """
        return self.test_data(seed)

    def batches(self, worker: int, workers: int, batch: int, rng: torch.Generator) -> Iterable[Any]:
        """The training data of worker number `worker`, batch by batch, where they are not to lie in memory.

        A DataLoader of a map-style or streaming dataset, with processes of its own or without, or any other iterable
        of `Examples` or pairs (inputs, labels). One that has ended starts again; for an iterator this is called again.
        After a restart of the worker it starts anew. Votes are on `worker_data`: keep some examples for them.

        Args:
            batch: examples wanted in a batch, as of the settings; another number is allowed.
            rng: on the CPU, for the order, as in `DataLoader(..., shuffle=True, generator=rng)`; it follows from the
                seed, the worker and the round in which the iterable is asked for.
        """
        raise NotImplementedError

    def augment(self, batch: Examples, rng: torch.Generator) -> Examples:
        """A mini-batch as it is trained on, changed at random: flipped or cropped images, noise. As it is, by default.

        Called for training alone: votes and measurements are on examples as they are.

        Args:
            batch: its own to write into, on the device of the model.
            rng: on the same device; its draws follow from the seed, the worker and the round.
        """
        return batch

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, (m,), from the model's outputs; cross entropy of (m, classes) scores by default."""
        scores, targets = described(outputs), described(labels)
        if not _is_scores(outputs, labels):
            one_hot = isinstance(outputs, Tensor) and outputs.dim() == 2 and labels.shape == outputs.shape
            advice = "write labels.argmax(dim=1)" if one_hot else "return the scores alone, reshape them"
            raise ContractBroken(
                f"cross entropy, the loss of a task that defines none, takes outputs (m, classes) and labels (m,), not "
                f"outputs {scores} and labels {targets}: {advice}, or define `losses`"
            )
        if labels.dtype != torch.int64:
            raise ContractBroken(
                f"cross entropy takes int64 labels, not {targets}: write labels.long(), or define `losses`"
            )
        return nn.functional.cross_entropy(outputs, labels, reduction="none")

    def correct(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Whether each example is answered rightly, (m,) bool; the highest score wins by default."""
        if not _is_scores(outputs, labels):
            raise ContractBroken(
                f"the highest of (m, classes) scores cannot be compared with labels (m,) where the outputs are "
                f"{described(outputs)} and the labels {described(labels)}: define `correct`"
            )
        return outputs.argmax(dim=1) == labels

    def measures(self, outputs: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """What an evaluator measures on test examples beside the loss: numbers of each example by name, (m,) each.

        The first one is the headline. Booleans are shares of examples, and shown in percent; one without a finite loss
        counts as False. By default `{"accuracy": self.correct(outputs, labels)}`.
        """
        return {"accuracy": self.correct(outputs, labels)}

    def finish(self, means: Mapping[str, float]) -> Mapping[str, float]:
        """What is shown, by name and the headline first, from the means of `measures` over all test examples.

        By default these means: R^2, perplexity or F1 are made of them here.
        """
        return means

    def flip(self, labels: Tensor) -> Tensor:
        """The labels that a label-flipping worker (LF) trains on; `(classes - 1) - y` of each class y by default.

        Integers that are no class, as -100 for what is to be ignored, stay what they are.
        """
        try:
            classes = operator.index(getattr(self, "classes", None))  # type: ignore[arg-type]
        except TypeError:
            raise ContractBroken(
                f"labels are flipped (LF) as (classes - 1) - y, but {type(self).__name__} has no number of `classes`: "
                "set classes = K, or define `flip`"
            ) from None
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ContractBroken(
                f"labels are flipped (LF) as (classes - 1) - y, which means nothing for {described(labels)} labels: "
                "define `flip`"
            )
        return torch.where((labels >= 0) & (labels < classes), (classes - 1) - labels, labels)


def _is_scores(outputs: Any, labels: Tensor) -> bool:
    """Whether these are (m, classes) scores and (m,) labels."""
    return isinstance(outputs, Tensor) and outputs.dim() == 2 and labels.shape == outputs.shape[:1]


def _check_tensor(name: str, values: Any) -> None:
    """Refuse what is no plain tensor of examples.

    Raises:
        ContractBroken: saying what it is, and what to write instead.
    """
    if not isinstance(values, Tensor):
        kind = f"{type(values).__module__}.{type(values).__qualname__}".removeprefix("builtins.")
        advice = "torch.from_numpy(...)" if kind == "numpy.ndarray" else "torch.tensor(...) or torch.stack(...)"
        raise ContractBroken(f"{name} are a {kind}: expected one tensor (m, ...): write {advice}")
    if values.dim() == 0:
        raise ContractBroken(f"{name} are one number, {described(values)}: expected a tensor (m, ...) of m examples")
    if values.requires_grad:
        raise ContractBroken(f"{name} are attached to a graph of gradients: write {name}.detach()")
    if values.is_meta:
        raise ContractBroken(f"{name} are on the meta device, without values")
    if values.layout != torch.strided:
        raise ContractBroken(f"{name} are a tensor of layout {values.layout}: write {name}.to_dense()")


def described(values: Any) -> str:
    """What something is, for a sentence: `float32 (16, 3)` for a tensor, the name of its type otherwise."""
    if not isinstance(values, Tensor):
        return type(values).__name__
    shape = ", ".join(map(str, values.shape)) + ("," if values.dim() == 1 else "")
    return f"{str(values.dtype).removeprefix('torch.')} ({shape})"
