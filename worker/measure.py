"""How good a model is on test data."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.worker.sampling import place

BLOCK = 512  # examples evaluated at once: bounds the memory of a pass over any test set


@dataclass(frozen=True)
class Measured:
    """A model on test data.

    Attributes:
        accuracy: share of examples answered rightly, 0 to 1; an example without a finite loss counts as wrong.
        loss: mean loss; NaN or infinite if that of an example is.
    """

    accuracy: float
    loss: float


@torch.no_grad()
def measure(task: Task, model: FlatModel, theta: NDArray[np.float32], examples: Examples) -> Measured:
    """Measure a model (d,) on m examples; what `model` held is overwritten.

    Examples that are measured often are best brought to the model's device first, with `worker.sampling.place`.

    Raises:
        OstrakonError: `theta` does not fit the task's model.
    """
    model.load(torch.from_numpy(theta))
    model.module.eval()
    examples = place(examples, model.theta.device)
    correct, loss = 0, 0.0
    for start in range(0, len(examples), BLOCK):
        labels = examples.labels[start : start + BLOCK]
        outputs = model.module(examples.inputs[start : start + BLOCK])
        losses = task.losses(outputs, labels)
        correct += int((task.correct(outputs, labels) & losses.isfinite()).sum())
        loss += losses.sum(dtype=torch.float64).item()
    return Measured(correct / len(examples), loss / len(examples))
