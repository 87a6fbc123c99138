"""A torch module whose parameters and gradients are views into one flat vector each."""

import torch
from torch import Tensor, nn

from ostrakon.common import safetensors_file
from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import FixedPart
from ostrakon.common.layout import Layout

# How safetensors call the types of frozen parameters and buffers.
_TYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint8: "U8", torch.bool: "BOOL"},
}


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

    Raises:
        OstrakonError: the module has no trainable parameters, some that are not float32 or whose shape is not yet
            known, or persistent floating-point buffers, which no update of theta would carry.
    """

    def __init__(self, module: nn.Module, device: torch.device | str) -> None:
        _check(module)
        self.module = module.to(device)
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.layout: Layout = tuple((name, tuple(p.shape)) for name, p in self._parameters.items())
        self.aliases = _aliases(module, self._parameters)
        self.theta = torch.cat([p.detach().reshape(-1) for p in self._parameters.values()])
        self.gradient = torch.zeros_like(self.theta)
        self._views: list[tuple[nn.Parameter, Tensor, Tensor]] = []  # with its part of theta and of the gradient
        start = 0
        for parameter in self._parameters.values():
            part = slice(start, start + parameter.numel())
            of_theta, of_gradient = (v[part].view(parameter.shape) for v in (self.theta, self.gradient))
            self._views.append((parameter, of_theta, of_gradient))
            start = part.stop
        self._buffers = [(owner, name, buffer.clone()) for owner, name, buffer in _buffers(module)]
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
        for owner, name, initial in self._buffers:
            owner._buffers[name] = initial.clone()

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

    def written(self) -> list[Tensor]:
        """The buffers that a pass has written into, as it left them."""
        now = [(owner._buffers.get(name), initial) for owner, name, initial in self._buffers]
        return [found for found, initial in now if found is not None and not torch.equal(found, initial)]

    def keep_written(self) -> None:
        """Let every pass from now on start from what the last one left in the buffers."""
        found = ((owner, name, owner._buffers.get(name), initial) for owner, name, initial in self._buffers)
        self._buffers = [
            (owner, name, (initial if now is None else now).clone()) for owner, name, now, initial in found
        ]

    def frozen(self) -> dict[str, Tensor]:
        """The parameters that require no gradient, by name."""
        return {name: p.detach() for name, p in self.module.named_parameters() if name not in self._parameters}

    def fixed(self) -> FixedPart:
        """What the module's state dict holds beside theta: second names, frozen parameters, persistent buffers."""
        trainable = self._parameters.keys() | self.aliases.keys()
        state = self.module.state_dict().items()
        return FixedPart(
            self.aliases,
            tuple(_tensor(name, v) for name, v in state if name not in trainable and isinstance(v, Tensor)),
        )

    def _attach(self) -> None:
        """Make parameters and their gradients views again, where user code (`weight.data = ...`) cut them off."""
        for parameter, theta, gradient in self._views:
            if parameter.data_ptr() != theta.data_ptr():
                parameter.data = theta
            if parameter.grad is None or parameter.grad.data_ptr() != gradient.data_ptr():
                parameter.grad = gradient


def _check(module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    kind = type(module).__name__
    for name, parameter in parameters.items():
        if nn.parameter.is_lazy(parameter):
            raise OstrakonError(f"parameter {name} of the task's model has no shape yet: give lazy layers their sizes")
        if parameter.requires_grad and parameter.dtype != torch.float32:
            found = str(parameter.dtype).removeprefix("torch.")
            raise OstrakonError(
                f"parameter {name} of the task's model is {found}: models are float32, use module.float()"
            )
    if not parameters:
        raise OstrakonError(f"the task's model {kind} has no parameters: there is nothing to learn")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise OstrakonError(f"no parameter of the task's model {kind} requires a gradient: there is nothing to learn")
    paths = {owner: path for path, owner in module.named_modules()}
    for owner, name, buffer in _buffers(module):
        persistent = name not in owner._non_persistent_buffers_set
        if persistent and (buffer.is_floating_point() or buffer.is_complex()):
            full = f"{paths[owner]}.{name}".removeprefix(".")
            raise OstrakonError(
                f"the task's model keeps the floating-point buffer {full}, which is no parameter and so would never be "
                "agreed on: use GroupNorm instead of BatchNorm; register a constant with persistent=False"
            )
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor) and value.dtype not in _TYPES:
            raise OstrakonError(f"{name} of the task's model is {value.dtype}, which no model file can hold")


def _buffers(module: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    every = ((owner, name, buffer) for owner in module.modules() for name, buffer in owner._buffers.items())
    return [(owner, name, buffer) for owner, name, buffer in every if buffer is not None]


def _aliases(module: nn.Module, trainable: dict[str, nn.Parameter]) -> dict[str, str]:
    """Further names of tied parameters -> their first one."""
    first = {id(parameter): name for name, parameter in trainable.items()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if id(p) in first and name != first[id(p)]}


def _tensor(name: str, value: Tensor) -> safetensors_file.Tensor:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return safetensors_file.Tensor(name, _TYPES[value.dtype], tuple(value.shape), [raw])
