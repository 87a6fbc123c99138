"""Where tensors live: the GPU where there is one, never required."""

import torch

from ostrakon.common.errors import OstrakonError


def resolve_device(name: str) -> torch.device:
    """Turn the setting `device` into a device of this machine.

    Args:
        name: auto (a GPU where there is one, else the CPU), cpu, cuda, or cuda:K for the GPU numbered K from 0.

    Raises:
        OstrakonError: the name is none of these, or this machine does not have that GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise OstrakonError(f"device = {name!r} is not known: use auto, cpu, cuda or cuda:1")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= gpus:
        found = f"{gpus} GPU" if gpus == 1 else f"{gpus} GPUs"
        raise OstrakonError(f"device = {name!r}, but torch finds {found} on this machine: use auto or cpu")
    return device
