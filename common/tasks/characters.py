"""What tasks of 62 character classes share: labels, the convolutional network of the seed, label flipping."""

from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ostrakon.common.tasks.contract import Examples, Task

CHARACTERS = digits + ascii_uppercase + ascii_lowercase
SIDE = 28  # pixels

_DIGITS, _LETTERS = len(digits), len(ascii_uppercase)


class Characters(Task):
    """Images (m, 1, 28, 28) of 0-9, A-Z and a-z; the label is the position in `CHARACTERS`."""

    classes = len(CHARACTERS)

    def model(self) -> nn.Module:
        """The paper's network, d = 115,646: two unpadded 5x5 convolutions with ReLU and pooling, one linear layer."""
        return nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, self.classes),
        )

    def flip(self, labels: Tensor) -> Tensor:
        """The paper's LF: digit y becomes (7y + 1) mod 10, an upper case letter its lower case and the reverse."""
        other_case = torch.where(labels < _DIGITS + _LETTERS, labels + _LETTERS, labels - _LETTERS)
        return torch.where(labels < _DIGITS, (7 * labels + 1) % _DIGITS, other_case)


def image_examples(pixels: NDArray[np.float32], labels: NDArray[np.int64]) -> Examples:
    """Examples of images (m, 1, 28, 28), laid out channels last.

    On a CPU this network then takes two thirds of the time to train and half to evaluate.
    """
    return Examples(torch.from_numpy(pixels).to(memory_format=torch.channels_last), torch.from_numpy(labels))
