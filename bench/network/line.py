"""A task whose model is one vector: next to nothing is computed, so that what is left is the network's."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ostrakon.common.tasks.contract import Examples, Task

NAME = f"{__name__}:Line"


class Line(Task):
    """A linear function of `size` inputs without a constant: d = size."""

    def __init__(self, data: Path | None = None, *, size: int = 100_000) -> None:
        super().__init__(data)
        self._size = size

    def model(self) -> nn.Module:
        return nn.Linear(self._size, 1, bias=False)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return self._examples()

    def test_data(self, seed: int) -> Examples:
        return self._examples()

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, 0] - labels) ** 2

    def correct(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, 0] - labels).abs() < 0.1

    def _examples(self) -> Examples:
        # Short inputs: a step of the learning rate would be too long for long ones, and the run diverge.
        return Examples(torch.randn(2, self._size) / self._size**0.5, torch.randn(2))
