"""A torch module whose parameters and gradients are views into one flat vector each."""

import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import FixedPart
from ostrakon.common.layout import Layout
from ostrakon.common.model_state import ModelState
from ostrakon.common.module_parts import (
    aliases_of,
    check_float32,
    check_no_statistics,
    check_parameters,
    check_storable,
    fixed_part,
    layout_of,
    trainable_parameters,
)


class FlatModel:
    """Moves a module to `device` and its trainable parameters into one vector: what the module computes, theta says.

    A parameter that the module uses in several places (tied weights) is held once. Parameters that require no gradient
    are no part of theta: they stay what they are, as buffers do. Gradients that backward passes add up arrive in
    `gradient`.

    Attributes:
        module: the module, its trainable parameters and their `.grad` being views.
        theta: (d,) float32, all trainable parameters.
        gradient: (d,) float32, all gradients, in the same order.
        layout: name and shape of each trainable parameter in the order in which they lie in `theta`.
        aliases: further names of tied parameters -> the name in `layout`.
        state: what is no part of theta.

    Raises:
        OstrakonError: the module has no trainable parameters, some that are not float32, whose shape is not yet known
            or that share memory without being the same, or something that no model file can hold.
    """

    def __init__(self, module: nn.Module, device: torch.device | str) -> None:
        check_parameters(module)
        check_float32(module)
        check_no_statistics(module)
        check_storable(module)
        self.module = module.to(device)
        self._parameters = trainable_parameters(module)
        self.layout: Layout = layout_of(self._parameters)
        self.aliases = aliases_of(module, self._parameters)
        self.theta = torch.cat([p.detach().reshape(-1) for p in self._parameters.values()])
        self.gradient = torch.zeros_like(self.theta)
        self._views: list[tuple[nn.Parameter, Tensor, Tensor]] = []  # with its part of theta and of the gradient
        start = 0
        for parameter in self._parameters.values():
            part = slice(start, start + parameter.numel())
            of_theta, of_gradient = (v[part].view(parameter.shape) for v in (self.theta, self.gradient))
            self._views.append((parameter, of_theta, of_gradient))
            start = part.stop
        self.state = ModelState(module, {id(parameter) for parameter in self._parameters.values()})
        self._ids = {name: id(parameter) for name, parameter in module.named_parameters()}
        self._attach()

    @property
    def parameters(self) -> int:
        """d, the number of trainable parameters."""
        return self.theta.numel()

    def load(self, theta: Tensor) -> None:
        """Copy a model (d,) in, from any device, and undo what passes left in buffers: each starts from the same state.

        Raises:
            OstrakonError: it has another number of parameters.
        """
        if theta.shape != self.theta.shape:
            raise OstrakonError(
                f"a model of shape {tuple(theta.shape)} does not fit this task's model, which has {self.parameters} "
                "parameters: it belongs to another task"
            )
        self.theta.copy_(theta)
        self._attach()
        self.state.restore()

    def zero_gradient(self) -> None:
        """Forget the gradients of earlier backward passes."""
        self.gradient.zero_()

    def collect_gradient(self) -> None:
        """Bring gradients home that did not arrive in `gradient`: user code may have replaced a parameter's `.grad`."""
        for parameter, _, gradient in self._views:
            if parameter.grad is None:
                gradient.zero_()
            elif parameter.grad.data_ptr() != gradient.data_ptr():
                gradient.copy_(parameter.grad)

    def check_parameters(self) -> None:
        """Check that the module still has the parameters that it had at first.

        Raises:
            OstrakonError: a pass has made, replaced or removed one: theta would say nothing of it.
        """
        now = {name: id(parameter) for name, parameter in self.module.named_parameters()}
        for name in sorted(now.keys() ^ self._ids.keys()):
            what = "appears" if name in now else "disappears"
            raise OstrakonError(f"parameter {name} of the task's model {what} in forward: make it once, in __init__")
        for name, found in now.items():
            if found != self._ids[name]:
                raise OstrakonError(
                    f"the task's model replaces its parameter {name} in forward: write into it, under torch.no_grad()"
                )

    def fixed(self) -> FixedPart:
        """What the module's state dict holds beside theta: second names, frozen parameters, persistent buffers."""
        return fixed_part(self.module, self._parameters, self.aliases)

    def _attach(self) -> None:
        """Make parameters and their gradients views again, where user code (`weight.data = ...`) cut them off."""
        for parameter, theta, gradient in self._views:
            if parameter.data_ptr() != theta.data_ptr():
                parameter.data = theta
            if parameter.grad is None or parameter.grad.data_ptr() != gradient.data_ptr():
                parameter.grad = gradient
