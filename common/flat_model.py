"""A torch module whose parameters and gradients are views into one flat vector each."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ostrakon.common import safetensors_file
from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import FixedPart
from ostrakon.common.layout import Layout
from ostrakon.common.model_state import ModelState

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
        state: what is no part of theta.

    Raises:
        OstrakonError: the module has no trainable parameters, some that are not float32, whose shape is not yet known
            or that share memory without being the same, or something that no model file can hold.
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
            advice = "keep torch.view_as_real(...) of it" if parameter.is_complex() else "use module.float()"
            raise OstrakonError(f"parameter {name} of the task's model is {found}: models are float32, {advice}")
        if parameter.is_meta:
            raise OstrakonError(f"parameter {name} of the task's model is on the meta device and has no values")
    if not parameters:
        raise OstrakonError(f"the task's model {kind} has no parameters: there is nothing to learn")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise OstrakonError(f"no parameter of the task's model {kind} requires a gradient: there is nothing to learn")
    for path, owner in module.named_modules():
        if isinstance(owner, _NormBase) and owner.running_mean is not None:
            buffer = f"{path}.running_mean".removeprefix(".")
            raise OstrakonError(
                f"the task's model keeps the floating-point buffer {buffer}, running statistics that are no parameter "
                "and so would never be agreed on: use GroupNorm instead of BatchNorm, or track_running_stats=False"
            )
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor) or value.dtype not in _TYPES or value.layout != torch.strided:
            what = f"{value.dtype} {value.layout}" if isinstance(value, Tensor) else type(value).__name__
            raise OstrakonError(
                f"{name} of the task's model is {what}, which no model file can hold: register it with "
                "persistent=False, or keep it out of the state dict"
            )
    _check_memory(module)


def _check_memory(module: nn.Module) -> None:
    """Refuse parameters that share memory: as views of theta they would no longer."""
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    dense = [(name, one) for name, one in module.named_buffers() if one.layout == torch.strided]
    spans = sorted((*_span(one), name) for name, one in (*trainable.items(), *dense) if one.numel())
    for (_, end, first), (start, _, second) in pairwise(spans):
        if start < end and (first in trainable or second in trainable):
            raise OstrakonError(
                f"{first} and {second} of the task's model share memory without being one parameter: tie them as "
                "second.weight = first.weight, or compute one from the other in forward"
            )


def _span(tensor: Tensor) -> tuple[int, int]:
    """The addresses of a tensor's first value, and behind its last one."""
    values = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + values * tensor.element_size()


def _aliases(module: nn.Module, trainable: dict[str, nn.Parameter]) -> dict[str, str]:
    """Further names of tied parameters -> their first one."""
    first = {id(parameter): name for name, parameter in trainable.items()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if id(p) in first and name != first[id(p)]}


def _tensor(name: str, value: Tensor) -> safetensors_file.Tensor:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return safetensors_file.Tensor(name, _TYPES[value.dtype], tuple(value.shape), [raw])
