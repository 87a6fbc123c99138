"""What a task is: a model, a worker's own examples, common test data and a loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError


@dataclass(frozen=True)
class Examples:
    """m examples: `inputs` (m, ...) in whatever form the model takes, `labels` (m, ...) in the same order.

    Raises:
        OstrakonError: there is no example, or not one label for each input.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise OstrakonError(
                f"{len(self.inputs)} inputs came with {len(self.labels)} labels: give one label for each input"
            )
        if len(self.labels) == 0:
            raise OstrakonError("a task gave no examples: every worker and the test set need at least one")

    def __len__(self) -> int:
        return len(self.labels)


class Task(ABC):
    """What is learned. Subclass it and name it as `package.module:MyTask`.

    A task of classes sets `classes` and writes `model`, `worker_data` and `test_data`. A regression task also
    overrides `losses` (squared error, say), `correct` (within a tolerance) and `flip` (the negative target), and
    leaves `classes` out.

    Every draw must follow from the arguments: two processes that call a method with the same ones must get the
    same tensors. Tensors are made on the CPU; the caller moves them.

    Args:
        data: file or folder given in the settings, for tasks that read one.
    """

    classes: ClassVar[int]

    def __init__(self, data: Path | None = None) -> None:
        self.data = data

    @abstractmethod
    def model(self) -> nn.Module:
        """The untrained model, float32, drawn from torch's global generator; see `initial_model`."""

    @abstractmethod
    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        """The examples that worker number `worker` (from 0) of `workers` trains on, its own and nobody else's."""

    @abstractmethod
    def test_data(self, seed: int) -> Examples:
        """The examples on which committed models are measured, none of which a worker holds."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, (m,), from the model's outputs; cross entropy of (m, classes) scores by default."""
        return nn.functional.cross_entropy(outputs, labels, reduction="none")

    def correct(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Whether each example is answered rightly, (m,) bool; the highest score wins by default."""
        return outputs.argmax(dim=1) == labels

    def flip(self, labels: Tensor) -> Tensor:
        """The labels that a label-flipping worker (LF) trains on; `(classes - 1) - y` by default."""
        return (self.classes - 1) - labels


def initial_model(task: Task, seed: int) -> nn.Module:
    """The model with the weights that follow from `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.model()
