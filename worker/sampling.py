"""A worker's random draws, and the mini-batches that follow from them."""

import numpy as np
import torch

from ostrakon.common.tasks.contract import Examples

# What a draw is for. Each purpose has its own stream, apart from those of a task's data and of a rehearsal (15).
TRAINING = 10
VOTE = 11
ATTACK = 12
COLLUSION = 13
BYZANTINE_VOTE = 14
MEASUREMENT = 16
SECOND_MOMENTUM = 17


def generator(seed: int, purpose: int, worker: int, round: int) -> np.random.Generator:
    """Random numbers that follow from these four values and from nothing that was drawn before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, worker, round)))


def place(examples: Examples, device: torch.device) -> Examples:
    """Bring examples to a device, once, laid out as the task made them; those that are there are not copied."""
    return Examples(examples.inputs.to(device), examples.labels.to(device))


def draw(examples: Examples, batch: int, rng: np.random.Generator) -> Examples:
    """Draw a copy of `batch` different examples; of all, in their order, where there are no more than that."""
    if batch >= len(examples):
        return examples.copy()
    chosen = torch.from_numpy(rng.choice(len(examples), batch, replace=False)).to(examples.inputs.device)
    # Not index_select: that would give up the layout.
    return Examples(examples.inputs[chosen], examples.labels[chosen])
