"""Training passes in half precision: torch's autocast, and the scaling of losses that float16 needs."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ostrakon.common.errors import OstrakonError
from ostrakon.common.setting_types import Precision

_HALVES = {"bf16": torch.bfloat16, "float16": torch.float16}
_FIRST = 2.0**16
_LARGEST = 2.0**24
_CALM = 2000  # passes without an overflow, after which twice the scale is tried


class LossScale:
    """What the loss of a float16 pass is multiplied by, so that small gradients are not rounded to 0 on their way back.

    It is halved until no gradient overflows. Source: Micikevicius et al. 2018; the numbers are those of torch's
    GradScaler.
    """

    def __init__(self) -> None:
        self.value = _FIRST
        self._calm = 0

    def settle(self, gradient: Tensor) -> bool:
        """Divide a gradient by the scale that its loss had; False if it has overflowed, and half the scale may do."""
        gradient.div_(self.value)
        fits = self.value == 1 or bool(gradient.isfinite().all())
        self._calm = self._calm + 1 if fits else 0
        if not fits:
            self.value /= 2
        elif self._calm == _CALM:
            self.value, self._calm = min(2 * self.value, _LARGEST), 0
        return fits


def loss_scale(precision: Precision) -> LossScale | None:
    """A new scale, where one is needed."""
    return LossScale() if precision == "float16" else None


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse what a device cannot do.

    Raises:
        OstrakonError: it is no GPU, and float16 is asked for.
    """
    if precision == "float16" and device.type != "cuda":
        raise OstrakonError(f"precision = 'float16' needs a GPU, and this computes on {device.type}: use bf16 there")


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Around a forward pass: torch's operations choose half precision where it does."""
    return torch.autocast(device.type, _HALVES[precision]) if precision in _HALVES else nullcontext()


def widened(outputs: Any) -> Any:
    """Outputs as float32, so that losses are computed in it; a model may return more than one tensor."""
    halves = _HALVES.values()
    return tree_map(lambda one: one.float() if isinstance(one, Tensor) and one.dtype in halves else one, outputs)
