"""Buffers and frozen parameters of a module: what every pass starts from, and none may change."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class _Buffer:
    """One buffer, in however many places it is registered."""

    now: Tensor
    initial: Tensor  # what a pass starts from
    first: Tensor  # what the first pass started from
    version: int
    places: list[tuple[nn.Module, str]] = field(default_factory=list)
    written: bool = False  # a pass was seen to write into it, perhaps where torch does not count it

    def touched(self) -> bool:
        """Whether it may not be what it was any more; a look at its values would take long."""
        replaced = any(owner._buffers.get(name) is not self.now for owner, name in self.places)
        return self.written or replaced or _version(self.now) != self.version

    def restore(self) -> None:
        self.now = self.initial.clone()
        self.version = _version(self.now)
        for owner, name in self.places:
            owner._buffers[name] = self.now


class ModelState:
    """What of a module is no part of theta."""

    def __init__(self, module: nn.Module, trainable: set[int]) -> None:
        """`trainable`: the ids of the parameters that are part of theta."""
        self._buffers: dict[int, _Buffer] = {}
        for owner, name, buffer in registered(module):
            kept = self._buffers.get(id(buffer))
            if kept is None:
                initial = buffer.detach().clone()
                kept = self._buffers[id(buffer)] = _Buffer(buffer, initial, initial, _version(buffer))
            kept.places.append((owner, name))
        self.frozen: dict[str, nn.Parameter] = {n: p for n, p in module.named_parameters() if id(p) not in trainable}
        self._versions = {name: _version(parameter) for name, parameter in self.frozen.items()}

    def restore(self) -> None:
        """Undo what passes left in buffers: the next one starts from the same state."""
        for buffer in self._buffers.values():
            if buffer.touched():
                buffer.restore()

    def overwritten(self) -> str | None:
        """The name of a frozen parameter that was written into."""
        return next((n for n, parameter in self.frozen.items() if _version(parameter) != self._versions[n]), None)

    def written(self) -> list[Tensor]:
        """The buffers that the last pass has left with other values, as it left them."""
        found = []
        for buffer in self._buffers.values():
            now = [owner._buffers.get(name) for owner, name in buffer.places]
            changed = [one for one in now if one is not None and not _same(one, buffer.initial)]
            buffer.written = buffer.written or bool(changed)
            found += changed[:1]
        return found

    def keep_written(self) -> None:
        """Let passes start from what the last one left, until `forget_written`."""
        for buffer in self._buffers.values():
            owner, name = buffer.places[0]
            left = owner._buffers.get(name)
            if left is not None:
                buffer.initial = left.detach().clone()

    def forget_written(self) -> None:
        """Let passes start from what the first one started from."""
        for buffer in self._buffers.values():
            buffer.initial = buffer.first
            buffer.restore()


def registered(module: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Every buffer of a module, with whose it is and what it is called there."""
    every = ((owner, name, buffer) for owner in module.modules() for name, buffer in owner._buffers.items())
    return [(owner, name, buffer) for owner, name, buffer in every if buffer is not None]


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values, NaNs included."""
    if one.layout != torch.strided or other.layout != torch.strided:
        return True  # sparse: its values are compared nowhere, its version is
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())
