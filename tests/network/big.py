"""A task whose model is larger than what the network buffers: a million parameters, of which few are used."""

import torch
from torch import Tensor, nn

from ostrakon.common.tasks.contract import Examples, Task

D = 1_000_000
CLASSES = 10


class Wide(nn.Module):
    """Picks a few of its many weights as the scores of an example."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(values // CLASSES, CLASSES))

    def forward(self, places: Tensor) -> Tensor:
        return self.weight[places]


class Big(Task):
    """Every example is the place of its ten weights, and a class."""

    classes = CLASSES
    values = D

    def model(self) -> nn.Module:
        return Wide(self.values)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return self._draw(seed + worker)

    def test_data(self, seed: int) -> Examples:
        return self._draw(seed)

    def _draw(self, seed: int) -> Examples:
        rng = torch.Generator().manual_seed(seed)
        return Examples(
            torch.randint(D // CLASSES, (200,), generator=rng), torch.randint(CLASSES, (200,), generator=rng)
        )


class Bigger(Big):
    """More than the system and gRPC take on themselves over a slow line: the sender waits for the reader."""

    values = 3 * D
