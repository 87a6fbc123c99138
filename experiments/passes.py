"""Passes of all workers of all runs at once: gradients for training, losses for the vote, answers for the measurement.

Tensors that are called flat hold what belongs to R runs one behind the other: their first dimension is R * m. Models of
`Linear`, `Conv2d` and layers without parameters, one after another, take the fast way (`layers.py`); all others go
through `torch.func.vmap`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ostrakon.common.aggregation.fused import works
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Task
from ostrakon.common.tasks.rehearsal import TEST_BLOCK
from ostrakon.common.traces import last_line
from ostrakon.experiments.layers import Convolution, Layer, apply, layer_of, max_pool, padded, pools_by_two
from ostrakon.experiments.tensors import in_tf32

_WITHOUT_PARAMETERS = (
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Identity),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten),
)
"""What treats each example apart, draws nothing, and does the same in training and in evaluation."""

_EXAMPLES_AT_ONCE = {"cpu": 96, "cuda": 1 << 14}
"""Examples in a pass without gradients: on a CPU, what goes from layer to layer stays in cache."""


class Passes(Protocol):
    """A task's computing with many models at once, on one device."""

    def gradients(self, thetas: Tensor, inputs: Tensor, labels: Tensor, weights: Tensor, out: Tensor) -> None:
        """Write each worker's gradient of `sum_j w_j * loss_j` over its mini-batch.

        Args:
            thetas: (R, d).
            inputs, labels: flat, (R * n * b, ...), each worker's b behind those of the worker before.
            weights: (R * n * b,).
            out: (R, n, d).
        """
        ...

    def losses(self, thetas: Tensor, inputs: Tensor, labels: Tensor, workers: int) -> Tensor:
        """The loss of each example, (R, n, m); inputs and labels are as of `gradients`, with m for b."""
        ...

    def answers(self, theta: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """Whether one model, (d,), answers each of some examples rightly, (m,) bool."""
        ...


def passes(task: Task, model: FlatModel) -> Passes:
    """The fastest passes that this task's model allows."""
    layers = _layers(model)
    if layers is None or type(task).losses is not Task.losses:
        return Vmapped(task, model)
    return Layered(task, layers)


@dataclass(frozen=True)
class Weighted:
    """A layer with weights, and where in theta these lie; the shapes are those of one model."""

    layer: Layer
    weight: slice
    weight_shape: tuple[int, ...]
    bias: slice | None

    def parts(self, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Its weight and bias in vectors, (..., d): views, (..., *shape) and (..., outputs)."""
        weight = vectors[..., self.weight]
        bias = None if self.bias is None else vectors[..., self.bias]
        return weight.view(*weight.shape[:-1], *self.weight_shape), bias

    def forward(self, x: Tensor, thetas: Tensor) -> Tensor:
        """Its outputs, with the weights in thetas, (R, d)."""
        return self.layer.forward(x, *self.parts(thetas))


@dataclass(frozen=True)
class Pooled:
    """A convolution, pooling by two and ReLU, in a pass without gradients."""

    convolution: Weighted
    layer: Convolution
    pool: nn.MaxPool2d

    def forward(self, x: Tensor, thetas: Tensor) -> Tensor:
        """Their outputs, with the weights in thetas, (R, d): by one kernel, where products are of TF32."""
        weight, bias = self.convolution.parts(thetas)
        if in_tf32(x.device) and works(x.device):
            from ostrakon.experiments.pooled_convolution import pooled_convolution

            return pooled_convolution(padded(x, self.layer.padding), weight, bias, self.layer.stride)
        return max_pool(self.pool, self.layer.forward(x, weight, bias)).relu()


class Layered:
    """Passes through layers that know the weights of all runs."""

    def __init__(self, task: Task, layers: Sequence[nn.Module | Weighted]) -> None:
        self._task = task
        self._layers = layers
        self._without_gradients = _pooled(layers)

    def gradients(self, thetas: Tensor, inputs: Tensor, labels: Tensor, weights: Tensor, out: Tensor) -> None:
        """See `Passes`."""
        with torch.enable_grad():
            losses = self._task.losses(self._outputs(thetas, inputs, out), labels)
            torch.dot(losses, weights).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def losses(self, thetas: Tensor, inputs: Tensor, labels: Tensor, workers: int) -> Tensor:
        """See `Passes`."""
        runs = len(thetas)
        blocks = [self._task.losses(*block).view(runs, -1) for block in self._blocks(thetas, inputs, labels)]
        return torch.cat(blocks, dim=1).view(runs, workers, -1)

    @torch.no_grad()
    def answers(self, theta: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """See `Passes`."""
        return torch.cat([_answered(self._task, *block) for block in self._blocks(theta[None], inputs, labels)])

    def _blocks(self, thetas: Tensor, inputs: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Flat outputs and labels, some examples of each run at a time."""
        runs = len(thetas)
        each = max(1, _EXAMPLES_AT_ONCE[thetas.device.type] // runs)
        of_inputs, of_labels = (
            torch.split(one.view(runs, -1, *one.shape[1:]), each, dim=1) for one in (inputs, labels)
        )
        for some, their_labels in zip(of_inputs, of_labels, strict=True):
            yield self._outputs(thetas, some.flatten(0, 1)), their_labels.flatten(0, 1)

    def _outputs(self, thetas: Tensor, inputs: Tensor, gradients: Tensor | None = None) -> Tensor:
        x = inputs
        if gradients is None:
            for step in self._without_gradients:
                if isinstance(step, nn.MaxPool2d):
                    x = max_pool(step, x)
                else:
                    x = step(x) if isinstance(step, nn.Module) else step.forward(x, thetas)
            return x
        for layer in self._layers:
            if isinstance(layer, Weighted):
                x = apply(layer.layer, x, *layer.parts(thetas), layer.parts(gradients))
            else:
                x = layer(x)
        return x


class Vmapped:
    """Passes of any module, one for each worker, by `torch.func`.

    Raises:
        OstrakonError: from `gradients`: the task's code does what `torch.func` cannot follow.
    """

    def __init__(self, task: Task, model: FlatModel) -> None:
        self._task = task
        self._model = model
        # Where each parameter is held: twice, if two modules share it, but once in a module that is used twice, which
        # torch would restore wrongly.
        names = (*model.aliases, *(name for name, _ in model.layout))
        owners = {name: model.module.get_submodule(name.rpartition(".")[0]) for name in names}
        once = {(id(owner), name.rpartition(".")[2]): name for name, owner in owners.items()}
        self._held = {name: model.aliases.get(name, name) for name in once.values()}

    def gradients(self, thetas: Tensor, inputs: Tensor, labels: Tensor, weights: Tensor, out: Tensor) -> None:
        """See `Passes`."""

        def loss(theta: Tensor, inputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
            return torch.dot(self._losses(theta, inputs, labels), weights)

        self._begin(training=True)
        batches = [one.view(*out.shape[:2], -1, *one.shape[1:]) for one in (inputs, labels, weights)]
        of_workers = vmap(grad(loss), in_dims=(None, 0, 0, 0), randomness="different")
        try:
            out.copy_(vmap(of_workers, randomness="different")(thetas, *batches))
        except RuntimeError as error:
            raise OstrakonError(
                f"task {type(self._task).__name__}: torch.func cannot compute all workers at once "
                f"({last_line(error)}): run it worker by worker, with exact=True"
            ) from error

    @torch.no_grad()
    def losses(self, thetas: Tensor, inputs: Tensor, labels: Tensor, workers: int) -> Tensor:
        """See `Passes`. One worker after another: without gradients, `torch.func` can follow less."""
        self._begin(training=False)
        groups = len(thetas) * workers
        batches = zip(
            inputs.view(groups, -1, *inputs.shape[1:]), labels.view(groups, -1, *labels.shape[1:]), strict=True
        )
        found = [self._losses(thetas[group // workers], *batch) for group, batch in enumerate(batches)]
        return torch.stack(found).view(len(thetas), workers, -1)

    @torch.no_grad()
    def answers(self, theta: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """See `Passes`."""
        self._begin(training=False)
        blocks = zip(torch.split(inputs, TEST_BLOCK), torch.split(labels, TEST_BLOCK), strict=True)
        return torch.cat([_answered(self._task, self._outputs(theta, some), of) for some, of in blocks])

    def _begin(self, *, training: bool) -> None:
        self._model.module.train(training)
        self._model.state.restore()

    def _losses(self, theta: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        return self._task.losses(self._outputs(theta, inputs), labels)

    def _outputs(self, theta: Tensor, inputs: Tensor) -> Tensor:
        views = {name: theta[part].view(shape) for name, (part, shape) in _places(self._model).items()}
        parameters = {name: views[first] for name, first in self._held.items()}
        outputs: Tensor = functional_call(self._model.module, parameters, (inputs.clone(),), tie_weights=False)
        return outputs


def _layers(model: FlatModel) -> list[nn.Module | Weighted] | None:
    """The layers of a module that is nothing but layers one after another; None for any other."""
    found: list[nn.Module | Weighted] = []
    places = _places(model)
    for name, module in model.module.named_modules(remove_duplicate=False):
        if type(module) is nn.Sequential:
            continue
        layer = layer_of(module, products=model.theta.is_cuda)
        if layer is not None:
            prefix = f"{name}." if name else ""
            weight, bias = (places.pop(f"{prefix}{part}", None) for part in ("weight", "bias"))
            if weight is None or (module.bias is not None and bias is None):
                return None  # frozen, or used twice
            found.append(Weighted(layer, *weight, None if bias is None else bias[0]))
        elif type(module) is nn.MaxPool2d and found and type(found[-1]) is nn.ReLU and not module.return_indices:
            found.insert(-1, module)  # the same numbers and gradients, from fewer of them
        elif type(module) in _WITHOUT_PARAMETERS and (found or not getattr(module, "inplace", False)):
            found.append(module)
        else:
            return None
    return found if not places else None


def _pooled(layers: Sequence[nn.Module | Weighted]) -> list[nn.Module | Weighted | Pooled]:
    """The layers, those that `Pooled` knows together."""
    found: list[nn.Module | Weighted | Pooled] = []
    for one in layers:
        first, pool = found[-2:] if len(found) > 1 else (None, None)
        if (
            isinstance(first, Weighted)
            and isinstance(first.layer, Convolution)
            and isinstance(pool, nn.MaxPool2d)
            and pools_by_two(pool)
            and type(one) is nn.ReLU
        ):
            found[-2:] = [Pooled(first, first.layer, pool)]
        else:
            found.append(one)
    return found


def _places(model: FlatModel) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Where each parameter lies in theta, and its shape."""
    places, start = {}, 0
    for name, shape in model.layout:
        places[name] = slice(start, start + math.prod(shape)), tuple(shape)
        start = places[name][0].stop
    return places


def _answered(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """Whether each example is answered rightly; one without a finite loss is not."""
    return task.correct(outputs, labels) & task.losses(outputs, labels).isfinite()
