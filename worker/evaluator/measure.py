"""How good a model is on test data."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.measures import Measures, Totals
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
    correct, loss = 0, 0.0
    for block, what in _blocks(examples, model, seed):
        losses, right = passes.answers(flat, block, what)
        correct += int((right & losses.isfinite()).sum())
        loss += losses.sum(dtype=torch.float64).item()
    return Measured(correct / len(examples), loss / len(examples))


def own_measures(
    task: Task, model: FlatModel, theta: NDArray[np.float32], examples: Examples, *, seed: int = 1
) -> Measures:
    """Measure a model (d,) on m examples by what the task says that it is measured by; see `measure`."""
    passes, flat, totals = Passes(task, model), torch.from_numpy(theta), Totals()
    for block, what in _blocks(examples, model, seed):
        totals.add(*passes.measures(flat, block, what))
    return totals.finish(task)


def _blocks(examples: Examples, model: FlatModel, seed: int) -> Iterator[tuple[Examples, Draw]]:
    examples = place(examples, model.theta.device)
    for start in range(0, len(examples), TEST_BLOCK):
        part = slice(start, start + TEST_BLOCK)
        yield Examples(examples.inputs[part], examples.labels[part]), Draw(seed, MEASUREMENT, 0, start)
