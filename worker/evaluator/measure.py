"""How good a model is on test data."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.passes import Draw, Passes
from ostrakon.common.tasks.rehearsal import TEST_BLOCK
from ostrakon.worker.sampling import MEASUREMENT, place


@dataclass(frozen=True)
class Measured:
    """A model on test data.

    Attributes:
        accuracy: share of examples answered rightly, 0 to 1; an example without a finite loss counts as wrong.
        loss: mean loss; NaN or infinite if that of an example is.
    """

    accuracy: float
    loss: float


def measure(task: Task, model: FlatModel, theta: NDArray[np.float32], examples: Examples, *, seed: int = 1) -> Measured:
    """Measure a model (d,) on m examples; what `model` held is overwritten.

    Examples that are measured often are best brought to the model's device first, with `sampling.place`.

    Args:
        seed: of what the task's code draws; every measurement draws the same.

    Raises:
        OstrakonError: `theta` does not fit the task's model, or the task's code raises or breaks the contract.
    """
    passes, flat = Passes(task, model), torch.from_numpy(theta)
    examples = place(examples, model.theta.device)
    correct, loss = 0, 0.0
    for start in range(0, len(examples), TEST_BLOCK):
        part = slice(start, start + TEST_BLOCK)
        block = Examples(examples.inputs[part], examples.labels[part])
        losses, right = passes.answers(flat, block, Draw(seed, MEASUREMENT, 0, start))
        correct += int((right & losses.isfinite()).sum())
        loss += losses.sum(dtype=torch.float64).item()
    return Measured(correct / len(examples), loss / len(examples))
