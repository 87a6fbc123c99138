"""A worker's random draws, and the mini-batches that follow from them."""

import numpy as np
import torch

from ostrakon.common.tasks.contract import Examples

# What a draw is for. Each purpose has its own stream, apart from those that make a task's data.
TRAINING = 10
VOTE = 11
ATTACK = 12
COLLUSION = 13
BYZANTINE_VOTE = 14


def generator(seed: int, purpose: int, worker: int, round: int) -> np.random.Generator:
    """Random numbers that follow from these four values and from nothing that was drawn before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, worker, round)))


def place(examples: Examples, device: torch.device) -> Examples:
    """Bring examples to a device, once, in the memory layout in which batches drawn from them are fastest.

    Images (m, channels, height, width) are laid out channels last: on a CPU a convolutional network then takes
    two thirds of the time to train and half to evaluate. Examples that are in place already are not copied.
    """
    layout = torch.channels_last if examples.inputs.dim() == 4 else torch.preserve_format
    return Examples(examples.inputs.to(device, memory_format=layout), examples.labels.to(device))


def draw(examples: Examples, batch: int, rng: np.random.Generator) -> Examples:
    """Draw `batch` different examples; all of them, in their order, where there are no more than that."""
    if batch >= len(examples):
        return examples
    chosen = torch.from_numpy(rng.choice(len(examples), batch, replace=False)).to(examples.inputs.device)
    # Not index_select: that would give up the layout.
    return Examples(examples.inputs[chosen], examples.labels[chosen])
