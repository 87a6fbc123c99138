"""Model files: what a run starts from and what it leaves behind.

A model is one flat float32 vector theta (d,); its `Layout` says which parameter lies where. In the file each
parameter stands under its own name, and what is no part of theta (tied weights' second names, frozen parameters,
integer buffers) beside them, so that `model.load_state_dict(safetensors.torch.load_file(path))` works.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import ALIASES, NOTHING_FIXED, FixedPart, read_aliases
from ostrakon.common.layout import Layout, parameters
from ostrakon.common.safetensors_file import Tensor, check_tensor, open_safetensors, stored_tensors, write_safetensors

_LAYOUT = "layout"  # the metadata key that keeps the flat order


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: theta (d,) float32, its layout, the writer's metadata, and what is no part of theta."""

    theta: NDArray[np.float32]
    layout: Layout
    metadata: dict[str, str]
    fixed: FixedPart = NOTHING_FIXED


def write_model(
    path: Path,
    theta: NDArray[np.float32],
    layout: Layout,
    metadata: Mapping[str, str],
    fixed: FixedPart = NOTHING_FIXED,
) -> None:
    """Write a model durably; `path` holds the whole model or what it held before, at any instant.

    Args:
        path: where to; an older file is replaced.
        theta: (d,) float32, contiguous.
        layout: names and shapes of the parameters, d values in all.
        metadata: further texts to keep; the keys "layout" and "aliases" are taken.
        fixed: what is no part of theta.

    Raises:
        OstrakonError: there is no space left, or the folder cannot be written.
        ValueError: theta and layout do not fit together.
    """
    if theta.dtype != np.float32 or theta.shape != (parameters(layout),):
        raise ValueError(f"theta is {theta.dtype} {theta.shape}: expected float32 ({parameters(layout)},)")
    trainable, start = {}, 0
    for name, shape in layout:
        end = start + math.prod(shape)
        trainable[name] = Tensor(name, "F32", shape, [theta[start:end]])
        start = end
    aliases = [replace(trainable[first], name=name) for name, first in fixed.aliases.items()]
    tensors = [*trainable.values(), *aliases, *fixed.constants]
    texts = {**metadata, _LAYOUT: json.dumps(layout)}
    if fixed.aliases:
        texts[ALIASES] = json.dumps(dict(fixed.aliases))
    write_safetensors(path, tensors, texts)


def read_model(path: Path) -> ModelFile:
    """Read what `write_model` wrote.

    Raises:
        OstrakonError: the file is missing, damaged, of another origin, or holds values that are not finite float32.
    """
    with open_safetensors(path, advice="write one with `ostrakon init`") as file:
        metadata = dict(file.metadata() or {})
        layout = _layout(path, metadata.pop(_LAYOUT, None))
        names = {name for name, _ in layout}
        aliases = read_aliases(path, metadata.pop(ALIASES, "{}"))
        if len(names) < len(layout) or not names | aliases.keys() <= set(file.keys()) or names & aliases.keys():
            raise OstrakonError(
                f"model file {path} is damaged: its layout names {sorted(names)}, it holds {sorted(file.keys())}"
            )
        if not names >= set(aliases.values()):
            raise OstrakonError(f"model file {path} is damaged: {aliases} are other names of what it does not hold")
        for name, shape in layout:
            check_tensor(path, file, name, "F32", shape)
        theta = np.empty(parameters(layout), dtype=np.float32)
        start = 0
        for name, shape in layout:
            end = start + math.prod(shape)
            theta[start:end] = file.get_tensor(name).reshape(-1)
            if not _finite(theta[start:end]):
                raise OstrakonError(
                    f"model file {path}: parameter {name} holds values that are not finite: use a finite model"
                )
            start = end
        others = [name for name in sorted(file.keys()) if name not in names | aliases.keys()]
    return ModelFile(theta, layout, metadata, FixedPart(aliases, tuple(stored_tensors(path, others))))


def _layout(path: Path, text: str | None) -> Layout:
    try:
        if text is None:
            raise ValueError("it has none")
        return tuple((str(name), tuple(int(size) for size in shape)) for name, shape in json.loads(text))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise OstrakonError(
            f"model file {path} does not say in which order its parameters lie ({error}): "
            "use a file that `ostrakon init` or a server wrote"
        ) from None


def _finite(values: NDArray[np.float32]) -> bool:
    # No sum of float32 values overflows float64, and this makes no temporary array as np.isfinite would.
    with np.errstate(invalid="ignore"):
        return math.isfinite(values.sum(dtype=np.float64))
