"""A torch module whose parameters and gradients are views into one flat vector each."""

import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError


class FlatModel:
    """Moves a module to `device` and its parameters into one vector: what the module computes, theta says.

    A parameter that the module uses in several places (tied weights) is held once. Gradients that backward passes
    add up arrive in `gradient`; clear them with `zero_gradient`, since the module's own `zero_grad` would cut the
    views off.

    Attributes:
        module: the module, its parameters and their `.grad` being views.
        theta: (d,) float32, all parameters.
        gradient: (d,) float32, all gradients, in the same order.
        layout: name and shape of each parameter in the order in which they lie in `theta`.

    Raises:
        OstrakonError: the module has no parameters, parameters that are not float32 or whose shape is not yet known,
            or floating-point buffers, which no update of theta would carry.
    """

    def __init__(self, module: nn.Module, device: torch.device | str) -> None:
        _check(module)
        self.module = module.to(device)
        parameters = dict(self.module.named_parameters())
        self.layout: tuple[tuple[str, tuple[int, ...]], ...] = tuple(
            (name, tuple(parameter.shape)) for name, parameter in parameters.items()
        )
        self.theta = torch.cat([parameter.detach().reshape(-1) for parameter in parameters.values()])
        self.gradient = torch.zeros_like(self.theta)
        start = 0
        for parameter in parameters.values():
            end = start + parameter.numel()
            parameter.data = self.theta[start:end].view(parameter.shape)
            parameter.grad = self.gradient[start:end].view(parameter.shape)
            start = end

    @property
    def parameters(self) -> int:
        """d, the number of parameters."""
        return self.theta.numel()

    def load(self, theta: Tensor) -> None:
        """Copy a model (d,) in, from any device.

        Raises:
            OstrakonError: it has another number of parameters.
        """
        if theta.shape != self.theta.shape:
            raise OstrakonError(
                f"a model of shape {tuple(theta.shape)} does not fit this task's model, which has {self.parameters} "
                "parameters: it belongs to another task"
            )
        self.theta.copy_(theta)

    def zero_gradient(self) -> None:
        """Forget the gradients of earlier backward passes."""
        self.gradient.zero_()


def _check(module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    if not parameters:
        raise OstrakonError(f"the task's model {type(module).__name__} has no parameters: there is nothing to learn")
    for name, parameter in parameters.items():
        if nn.parameter.is_lazy(parameter):
            raise OstrakonError(f"parameter {name} of the task's model has no shape yet: give lazy layers their sizes")
        if parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise OstrakonError(
                f"parameter {name} of the task's model is {kind}: models are float32, use module.float()"
            )
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            raise OstrakonError(
                f"the task's model keeps the floating-point buffer {name}, which is no parameter and so would never be "
                "agreed on: use GroupNorm instead of BatchNorm, and plain attributes for constants"
            )
