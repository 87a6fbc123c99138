"""What is learned, as a training loop has it: a torch module of any kind, or nothing but vectors."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ostrakon.common.algorithm import momentum
from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import FixedPart
from ostrakon.common.layout import Layout, parameters
from ostrakon.common.module_parts import (
    aliases_of,
    check_parameters,
    check_storable,
    fixed_part,
    layout_of,
    running_statistics,
    trainable_parameters,
)
from ostrakon.common.wire import Vector
from ostrakon.worker.training import Momentum

MODEL = "the model"
CHANGED = "change layers, and what requires a gradient, before the Worker is made"


class LocalModel(Protocol):
    """What a loop trains; theta and momenta are (d,) float32 throughout."""

    parameters: int
    """d."""
    layout: Layout
    """Which parameter lies where in theta; empty where nothing is known of that."""
    constants: str
    """See `FixedPart.digest`."""

    def load(self, theta: Vector) -> None:
        """Hold this model."""
        ...

    def begin(self, theta: Vector) -> None:
        """Hold the model that a round starts from, with no gradient left of an earlier one."""
        ...

    def momentum(self, loss: float) -> Momentum:
        """m_t, of the gradient that there is now."""
        ...

    def trying(self, theta: Vector) -> AbstractContextManager[tuple[Any, ...]]:
        """Hold a candidate meanwhile; what a function that judges it is given."""
        ...


def parts(module: nn.Module) -> tuple[dict[str, nn.Parameter], FixedPart]:
    """The parameters that are theta, in order, and what a model file holds beside it.

    BatchNorm's running statistics are in neither: they are each worker's own.

    Raises:
        OstrakonError: the module cannot be learned, or not be stored.
    """
    check_parameters(module, MODEL)
    check_storable(module, MODEL)
    trainable = trainable_parameters(module)
    return trainable, fixed_part(module, trainable, aliases_of(module, trainable), running_statistics(module))


class ModuleModel:
    """A module, whose parameters stay where and what they are: values are copied in, gradients are read.

    Args:
        module: on any device, with trainable parameters of any floating-point type. Those that require no gradient now
            are no part of theta; one that is used in several places counts once.
        beta: momentum coefficient.

    Raises:
        OstrakonError: see `parts`.
    """

    def __init__(self, module: nn.Module, beta: float) -> None:
        trainable, fixed = parts(module)
        self._module = module
        self._beta = beta
        self._parameters = list(trainable.values())
        self.layout: Layout = layout_of(trainable)
        self.parameters = parameters(self.layout)
        self.constants = fixed.digest()
        self._theta: Vector | None = None
        self._momentum: Tensor | None = None

    def load(self, theta: Vector) -> None:
        """Copy theta into the parameters, rounded to their types.

        Raises:
            OstrakonError: a parameter has another shape than it had.
        """
        self._check_shapes()
        self._theta = theta
        moved = torch.from_numpy(theta).to(self._device)
        with torch.no_grad():
            for parameter, values in zip(self._parameters, self._split(moved), strict=True):
                parameter.copy_(values)

    def begin(self, theta: Vector) -> None:
        """Load theta, and forget every gradient."""
        self.load(theta)
        self._module.zero_grad(set_to_none=True)

    def momentum(self, loss: float) -> Momentum:
        """Fold the parameters' gradients, zeros where there is none, into the momentum (Algorithm 1, line 6).

        One that is not finite is left out, and said to be so.

        Raises:
            OstrakonError: no parameter has a gradient, or one that is no part of theta has.
        """
        self._check_shapes()
        self._check_gradients()
        gradient = torch.zeros(self.parameters, device=self._device)
        for parameter, values in zip(self._parameters, self._split(gradient), strict=True):
            if parameter.grad is not None:
                values.copy_(parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad)
        if self._momentum is None:
            self._momentum = torch.zeros_like(gradient)
        finite = bool(torch.isfinite(gradient).all())
        if finite:
            self._momentum = momentum(self._momentum.to(gradient.device), gradient, self._beta)
        return Momentum(self._momentum.cpu().numpy(), loss, finite)

    @contextmanager
    def trying(self, theta: Vector) -> Iterator[tuple[Any, ...]]:
        """Hold a candidate in evaluation mode and without gradients; afterwards all is as it was, buffers too."""
        before, modes = self._theta, [(part, part.training) for part in self._module.modules()]
        buffers = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        try:
            self.load(theta)
            self._module.eval()
            with torch.no_grad():
                yield ()
        finally:
            if before is not None:
                self.load(before)
            with torch.no_grad():
                for buffer, values in buffers:
                    buffer.copy_(values)
            for part, training in modes:
                part.training = training

    def _check_shapes(self) -> None:
        for parameter, (name, shape) in zip(self._parameters, self.layout, strict=True):
            if tuple(parameter.shape) != shape:
                raise OstrakonError(
                    f"parameter {name} of the model has become {tuple(parameter.shape)}, it was {shape}: {CHANGED}"
                )

    def _check_gradients(self) -> None:
        theirs = {id(parameter) for parameter in self._parameters}
        for name, parameter in self._module.named_parameters():
            if parameter.grad is not None and id(parameter) not in theirs:
                raise OstrakonError(f"parameter {name} of the model has a gradient and is no part of theta: {CHANGED}")
        if all(parameter.grad is None for parameter in self._parameters):
            raise OstrakonError(
                "no parameter of the model has a gradient: call backward() before submit(), and zero_grad() after it "
                "or not at all"
            )

    @property
    def _device(self) -> torch.device:
        return self._parameters[0].device

    def _split(self, vector: Tensor) -> Iterator[Tensor]:
        """The part of a vector (d,) that is each parameter's, in its shape."""
        start = 0
        for _, shape in self.layout:
            end = start + math.prod(shape)
            yield vector[start:end].view(shape)
            start = end


class VectorModel:
    """No module: d values that mean what the loop makes of them."""

    layout: Layout = ()
    constants = ""

    def __init__(self, d: int) -> None:
        self.parameters = d

    def load(self, theta: Vector) -> None:
        """Do nothing: the loop reads theta itself."""

    begin = load

    def momentum(self, loss: float) -> Momentum:
        """Refuse.

        Raises:
            OstrakonError: there are no gradients.
        """
        raise OstrakonError("without a model there are no gradients to be found: give submit a vector")

    @contextmanager
    def trying(self, theta: Vector) -> Iterator[tuple[Any, ...]]:
        """Hand the candidate over."""
        yield (read_only(theta),)


def number(loss: Any) -> float:
    """A mini-batch's loss as a loop gives it.

    Raises:
        OstrakonError: it is not one number.
    """
    try:
        return float(loss.detach() if isinstance(loss, Tensor) else loss)
    except (TypeError, ValueError, RuntimeError):
        raise OstrakonError(f"submit was given a {type(loss).__name__} as loss: expected one number") from None


def own_vector(vector: Any, d: int, loss: float) -> Momentum:
    """A vector of the loop's own, copied.

    Raises:
        OstrakonError: it is not one of d numbers.
    """
    try:
        found = vector.detach().float().cpu().numpy() if isinstance(vector, Tensor) else np.asarray(vector)
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
            values = found.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise OstrakonError(f"submit was given something that is no vector of numbers: {error}") from None
    if values.shape != (d,):
        hint = "" if values.shape else "; the loss of the mini-batch is submit(loss=...)"
        raise OstrakonError(
            f"submit was given values of shape {values.shape}: expected ({d},), one for each parameter{hint}"
        )
    return Momentum(values, loss, bool(np.isfinite(values).all()))


def read_only(vector: Vector) -> Vector:
    """The same values, which nobody can write to by mistake, in memory that is no part of ours.

    `torch.from_numpy` would write to it all the same.
    """
    copy = vector.copy()
    copy.flags.writeable = False
    return copy
