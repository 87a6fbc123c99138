"""What runs side by side do with tensors that hold something of each of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def some(x: Tensor, places: Sequence[int]) -> Tensor:
    """These places of the first dimension, ascending; nothing is copied where that is all of it."""
    return x if len(places) == len(x) else x[index(places, x.device)]


def index(places: Sequence[int], device: torch.device) -> Tensor:
    """Places to index with. To give torch a list instead would have it wait for the GPU."""
    return to_device(np.array(places, dtype=np.int64), device)


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to a device, without waiting until a GPU has done what it was told before."""
    made = torch.from_numpy(array)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made


def in_tf32(device: torch.device) -> bool:
    """Whether products there are of TF32 now, and nobody counts torch's operations."""
    return (
        device.type == "cuda"
        and torch.backends.cuda.matmul.fp32_precision == "tf32"
        and not is_in_torch_dispatch_mode()
    )


@contextmanager
def tf32() -> Iterator[None]:
    """Within it a GPU's products of float32 matrices take 10 bits of each number's 23; on a CPU nothing changes."""
    setting = torch.backends.cuda.matmul
    before = setting.fp32_precision
    setting.fp32_precision = "tf32"
    try:
        yield
    finally:
        setting.fp32_precision = before
