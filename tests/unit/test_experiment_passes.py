"""Passes of all workers at once beside those of one worker after another."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks import passes as one_worker
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.passes import Draw, initial_model
from ostrakon.experiments.drawing import draw
from ostrakon.experiments.layers import Convolution, Layer
from ostrakon.experiments.passes import Layered, Vmapped, Weighted, passes
from ostrakon.worker.sampling import TRAINING

WORKERS, BATCH = 3, 4


class Images(Task):
    """Any module on images (m, 2, 13, 11), for three classes."""

    classes = 3

    def __init__(self, module: nn.Module) -> None:
        super().__init__(None)
        self.module = module

    def model(self) -> nn.Module:
        return self.module

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        raise NotImplementedError

    def test_data(self, seed: int) -> Examples:
        raise NotImplementedError


class Residual(nn.Module):
    """A module with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding="same")
        self.norm = nn.GroupNorm(1, 2)
        self.last = nn.Linear(2 * 13 * 11, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((x + self.norm(self.first(x)).relu()).flatten(1))


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), padding=(1, 0)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 5, 2, stride=(1, 2), bias=False), nn.Tanh()),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(5 * 2 * 1, 3),
    )


def tied() -> nn.Module:
    torch.manual_seed(0)
    shared = nn.Conv2d(2, 2, 3, padding=1)
    return nn.Sequential(shared, nn.ReLU(), shared, nn.Flatten(), nn.Linear(2 * 13 * 11, 3))


class Shared(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Linear(2 * 13 * 11, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).relu()).flatten(1))


def frozen() -> nn.Module:
    module = plain()
    module[0].bias.requires_grad_(False)
    return module


def batch_of(runs: int) -> tuple[Tensor, Tensor, Tensor]:
    m = runs * WORKERS * BATCH
    rng = torch.Generator().manual_seed(1)
    images = torch.randn(m, 2, 13, 11, generator=rng).contiguous(memory_format=torch.channels_last)
    weights = torch.tensor([0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0, 0, 0.25, 0.25, 0.25, 0.25])
    return images, torch.randint(3, (m,), generator=rng), weights.repeat(runs)


def expected(task: Task, model: FlatModel, thetas: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Each worker's gradient by its own pass; the second worker of each run has two examples."""
    own = one_worker.Passes(task, model)
    rows = []
    for r, theta in enumerate(thetas):
        for worker in range(WORKERS):
            first = (r * WORKERS + worker) * BATCH
            some = slice(first, first + (2 if worker == 1 else BATCH))
            own.gradient(theta, Examples(images[some], labels[some]), Draw(1, TRAINING))
            rows.append(model.gradient.clone())
    return torch.stack(rows).view(len(thetas), WORKERS, -1)


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize(
    ("make", "kind"), [(plain, Layered), (Residual, Vmapped), (tied, Vmapped), (Shared, Vmapped), (frozen, Vmapped)]
)
def test_every_worker_of_every_run_gets_its_own_gradient_and_losses(
    make: type[nn.Module], kind: type, runs: int, products: bool
) -> None:
    task = Images(make())
    model = FlatModel(task.model(), "cpu")
    found = passes(task, model)
    assert type(found) is kind
    if isinstance(found, Layered):
        found = Layered(task, [by(one, products) for one in found._layers])
    thetas = torch.stack([model.theta + 0.1 * r for r in range(runs)])
    images, labels, weights = batch_of(runs)
    out = torch.full((runs, WORKERS, model.parameters), torch.nan)
    found.gradients(thetas, images, labels, weights, out)
    torch.testing.assert_close(out, expected(task, model, thetas, images, labels), rtol=1e-4, atol=5e-6)

    losses = found.losses(thetas, images, labels, WORKERS)
    own = one_worker.Passes(task, model)
    for r, theta in enumerate(thetas):
        some = slice(r * WORKERS * BATCH, (r + 1) * WORKERS * BATCH)
        each, right = own.answers(theta, Examples(images[some], labels[some]), Draw(1, TRAINING))
        torch.testing.assert_close(losses[r].flatten(), each, rtol=1e-4, atol=1e-6)
        assert torch.equal(found.answers(theta, images[some], labels[some]), right)


def by(one: nn.Module | Weighted, products: bool) -> nn.Module | Weighted:
    """A layer that computes as on a GPU, or as on a CPU."""
    if not isinstance(one, Weighted) or not isinstance(one.layer, Convolution):
        return one
    layer: Layer = Convolution(one.layer.stride, one.layer.padding, products)
    return Weighted(layer, one.weight, one.weight_shape, one.bias)


def test_the_papers_network_takes_the_fast_way() -> None:
    from ostrakon.common.tasks.glyphs import Glyphs

    glyphs = Glyphs()
    assert isinstance(passes(glyphs, FlatModel(initial_model(glyphs, 1), "cpu")), Layered)


def test_code_that_cannot_be_computed_for_all_workers_at_once_is_named() -> None:
    class Counting(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1.0 if x.sum().item() > 0 else 2.0)

    task = Images(Counting())
    model = FlatModel(task.model(), "cpu")
    out = torch.zeros(1, WORKERS, model.parameters)
    with pytest.raises(
        OstrakonError, match=r"task Images: torch.func cannot .* run it worker by worker, with exact=True"
    ):
        passes(task, model).gradients(model.theta[None], *batch_of(1), out)


def test_mini_batches_are_different_examples_each_as_likely_as_any_other() -> None:
    sizes = np.array([[5, 3, 2, 9], [9, 9, 9, 9]])
    counts = np.zeros((4, 9))
    for round in range(2000):
        drawn = draw(sizes, 3, [1, 2], TRAINING, round)
        assert drawn.counts.tolist() == [[3, 3, 2, 3], [3, 3, 3, 3]]
        places = drawn.places[0]
        for worker, count in enumerate(drawn.counts[0]):
            assert len(set(places[worker, :count])) == count
            counts[worker, places[worker, :count]] += 1
    np.testing.assert_array_equal(places[1:3], [[0, 1, 2], [0, 1, 0]])
    np.testing.assert_allclose(drawn.weights[0, 2], [0.5, 0.5, 0])
    np.testing.assert_allclose(counts[0, :5] / 2000, 3 / 5, atol=0.05)
    np.testing.assert_allclose(counts[3] / 2000, 3 / 9, atol=0.05)
    alone = draw(sizes[1:], 3, [2], TRAINING, round)
    np.testing.assert_array_equal(alone.places, drawn.places[1:])
