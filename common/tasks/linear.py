"""The smallest task: Gaussian classes and a linear model, for tests."""

import numpy as np
import torch
from torch import nn

from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.streams import POPULATION, TEST, WORKERS, stream

_FEATURES = 16
_PER_WORKER = 200
_TEST = 500


class Linear(Task):
    """Ten classes in 16 dimensions, d = 170: unit Gaussians around centres that are drawn from the seed."""

    classes = 10

    def model(self) -> nn.Module:
        return nn.Linear(_FEATURES, self.classes)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return self._draw(stream(seed, WORKERS, worker), _PER_WORKER, seed)

    def test_data(self, seed: int) -> Examples:
        return self._draw(stream(seed, TEST), _TEST, seed)

    def _draw(self, rng: np.random.Generator, m: int, seed: int) -> Examples:
        centres = stream(seed, POPULATION).standard_normal((self.classes, _FEATURES))
        labels = rng.integers(self.classes, size=m)
        inputs = centres[labels] + rng.standard_normal((m, _FEATURES))
        return Examples(torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(labels))
