"""Which tensors of a torch module are part of theta, and which are not: their names, and what cannot be used."""

from collections.abc import Collection, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

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

TASKS = "the task's model"  # what a model is called in sentences


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Those that require a gradient, by their first names, in the module's order: theta's."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def layout_of(parameters: Mapping[str, nn.Parameter]) -> Layout:
    """Names and shapes of parameters, in their order."""
    return tuple((name, tuple(p.shape)) for name, p in parameters.items())


def aliases_of(module: nn.Module, trainable: Mapping[str, nn.Parameter]) -> dict[str, str]:
    """Further names of tied parameters -> their first one."""
    first = {id(parameter): name for name, parameter in trainable.items()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if id(p) in first and name != first[id(p)]}


def fixed_part(
    module: nn.Module, trainable: Mapping[str, nn.Parameter], aliases: Mapping[str, str], without: Collection[str] = ()
) -> FixedPart:
    """What a module's state dict holds beside theta: second names, frozen parameters, persistent buffers.

    Args:
        trainable: see `trainable_parameters`.
        aliases: see `aliases_of`.
        without: names of buffers to leave out.
    """
    others = {name: value for name, value in module.state_dict().items() if name not in trainable.keys() | {*without}}
    return FixedPart(
        aliases,
        tuple(_tensor(name, v) for name, v in others.items() if name not in aliases and isinstance(v, Tensor)),
    )


def running_statistics(module: nn.Module) -> list[str]:
    """The names of BatchNorm's buffers, which training passes overwrite and no gradient moves."""
    return [
        f"{path}.{name}".removeprefix(".")
        for path, owner in module.named_modules()
        if isinstance(owner, _NormBase) and owner.running_mean is not None
        for name in ("running_mean", "running_var", "num_batches_tracked")
    ]


def check_parameters(module: nn.Module, whose: str = TASKS) -> None:
    """Refuse a module without trainable parameters, or with some that have no values yet.

    Raises:
        OstrakonError: saying which, and what to do.
    """
    parameters = dict(module.named_parameters())
    kind = type(module).__name__
    for name, parameter in parameters.items():
        if nn.parameter.is_lazy(parameter):
            raise OstrakonError(f"parameter {name} of {whose} has no shape yet: give lazy layers their sizes")
        if parameter.requires_grad and parameter.is_complex():
            found = str(parameter.dtype).removeprefix("torch.")
            raise OstrakonError(
                f"parameter {name} of {whose} is {found}: models are float32, keep torch.view_as_real(...) of it"
            )
        if parameter.is_meta:
            raise OstrakonError(f"parameter {name} of {whose} is on the meta device and has no values")
    if not parameters:
        raise OstrakonError(f"{whose} {kind} has no parameters: there is nothing to learn")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise OstrakonError(f"no parameter of {whose} {kind} requires a gradient: there is nothing to learn")


def check_float32(module: nn.Module) -> None:
    """Refuse trainable parameters of other types.

    Raises:
        OstrakonError: naming the first.
    """
    for name, parameter in trainable_parameters(module).items():
        if parameter.dtype != torch.float32:
            found = str(parameter.dtype).removeprefix("torch.")
            raise OstrakonError(f"parameter {name} of {TASKS} is {found}: models are float32, use module.float()")


def check_no_statistics(module: nn.Module) -> None:
    """Refuse BatchNorm's running statistics.

    Raises:
        OstrakonError: naming the first, and what to use instead.
    """
    for buffer in running_statistics(module):
        raise OstrakonError(
            f"{TASKS} keeps the floating-point buffer {buffer}, running statistics that are no parameter "
            "and so would never be agreed on: use GroupNorm instead of BatchNorm, or track_running_stats=False"
        )


def check_storable(module: nn.Module, whose: str = TASKS) -> None:
    """Refuse what no model file can hold, and parameters that share memory: as parts of theta they would no longer.

    Raises:
        OstrakonError: saying which, and what to do.
    """
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor) or value.dtype not in _TYPES or value.layout != torch.strided:
            what = f"{value.dtype} {value.layout}" if isinstance(value, Tensor) else type(value).__name__
            raise OstrakonError(
                f"{name} of {whose} is {what}, which no model file can hold: register it with "
                "persistent=False, or keep it out of the state dict"
            )
    trainable = trainable_parameters(module)
    dense = [(name, one) for name, one in module.named_buffers() if one.layout == torch.strided]
    spans = sorted((*_span(one), name) for name, one in (*trainable.items(), *dense) if one.numel())
    for (_, end, first), (start, _, second) in pairwise(spans):
        if start < end and (first in trainable or second in trainable):
            raise OstrakonError(
                f"{first} and {second} of {whose} share memory without being one parameter: tie them as "
                "second.weight = first.weight, or compute one from the other in forward"
            )


def _span(tensor: Tensor) -> tuple[int, int]:
    """The addresses of a tensor's first value, and behind its last one."""
    values = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + values * tensor.element_size()


def _tensor(name: str, value: Tensor) -> safetensors_file.Tensor:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return safetensors_file.Tensor(name, _TYPES[value.dtype], tuple(value.shape), [raw])
