"""What tasks of 62 character classes share: labels, the convolutional network of the seed, label flipping."""

from string import ascii_lowercase, ascii_uppercase, digits

import torch
from torch import Tensor, nn

from ostrakon.common.tasks.contract import Task
from ostrakon.common.tasks.images import network

CHARACTERS = digits + ascii_uppercase + ascii_lowercase
SIDE = 28  # pixels

_DIGITS, _LETTERS = len(digits), len(ascii_uppercase)


class Characters(Task):
    """Images (m, 1, 28, 28) of 0-9, A-Z and a-z; the label is the position in `CHARACTERS`."""

    classes = len(CHARACTERS)

    def model(self) -> nn.Module:
        """The paper's network, d = 115,646."""
        return network(1, SIDE, self.classes)

    def flip(self, labels: Tensor) -> Tensor:
        """The paper's LF: digit y becomes (7y + 1) mod 10, an upper case letter its lower case and the reverse."""
        other_case = torch.where(labels < _DIGITS + _LETTERS, labels + _LETTERS, labels - _LETTERS)
        return torch.where(labels < _DIGITS, (7 * labels + 1) % _DIGITS, other_case)
