"""theta_0 of a run whose workers have loops of their own, as a file for the server."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.layout import Layout
from ostrakon.common.model_file import write_model
from ostrakon.common.module_parts import layout_of
from ostrakon.worker.embedded.model import own_vector, parts
from ostrakon.worker.embedded.settings import OWN


def write_initial(model: nn.Module | Any, path: Path | str, *, task: str = OWN) -> None:
    """Write what a run starts from.

    Args:
        model: a module, whose trainable parameters are theta_0; or theta_0 itself, (d,).
        path: where to; the server's setting `initial`.
        task: as the server's settings say it.

    Raises:
        OstrakonError: the module cannot be learned, the vector is none, a value is not finite, or the file cannot be
            written.
    """
    metadata = {"task": task}
    if isinstance(model, nn.Module):
        trainable, fixed = parts(model)
        values = torch.cat([p.detach().reshape(-1).float().cpu() for p in trainable.values()])
        write_model(Path(path), _finite(values), layout_of(trainable), metadata, fixed)
    else:
        vector = _vector(model)
        layout: Layout = (("theta", (len(vector),)),)
        write_model(Path(path), _finite(vector), layout, metadata)


def _vector(given: Any) -> Tensor:
    try:
        vector = torch.as_tensor(given)
        found = f"values of shape {tuple(vector.shape)}, {vector.dtype}"
    except (TypeError, ValueError, RuntimeError):
        vector, found = torch.empty(0), f"a {type(given).__name__}"
    if vector.dim() != 1 or not len(vector) or vector.is_complex():
        raise OstrakonError(f"write_initial was given {found}: expected a torch module, or theta_0 as numbers, (d,)")
    return vector


def _finite(theta: Tensor) -> Any:
    found = own_vector(theta, len(theta), 0.0)
    if not found.finite:
        raise OstrakonError("the model holds values that are not finite: a run cannot start from it")
    return found.vector
