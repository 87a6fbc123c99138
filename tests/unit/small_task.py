"""A task small enough to be worked out by hand."""

import torch
from torch import Tensor, nn

from ostrakon.common.tasks.contract import Examples, Task


class SmallTask(Task):
    """Three classes on eight inputs, a linear model without hidden layers (d = 27)."""

    classes = 3

    def model(self) -> nn.Module:
        return nn.Linear(8, 3)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return _draw(100, worker + 1)

    def test_data(self, seed: int) -> Examples:
        return _draw(1100, 0)


class ImageTask(SmallTask):
    """The same on images (m, 2, 12, 12) through a convolution."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        images = torch.randn(100, 2, 12, 12, generator=torch.Generator().manual_seed(worker))
        return Examples(images, _labels(images.flatten(1)))


def _draw(m: int, seed: int) -> Examples:
    inputs = torch.randn(m, 8, generator=torch.Generator().manual_seed(seed))
    return Examples(inputs, _labels(inputs))


def _labels(inputs: Tensor) -> Tensor:
    return inputs[:, :3].argmax(dim=1)
