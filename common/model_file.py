"""Model files: safetensors, written durably and block by block, read with every value checked.

A model is one flat float32 vector theta (d,); its `Layout` says which parameter lies where. In the file each
parameter stands under its own name, so that `model.load_state_dict(safetensors.torch.load_file(path))` works.
Format: https://github.com/huggingface/safetensors (8 bytes of header length, a JSON header, the raw data).
"""

import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ostrakon.common.errors import OstrakonError, disk_trouble

Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of the parameters, in flat order."""

TEMPORARY_SUFFIX = ".tmp"  # of a file that is being written; one left behind by a crash may be deleted

_LAYOUT = "layout"  # the metadata key that keeps the flat order
_VALUE_BYTES = {"F32": 4, "F64": 8}


@dataclass(frozen=True)
class Tensor:
    """One tensor to write: its blocks, one after the other, hold the values in C order."""

    name: str
    dtype: Literal["F32", "F64"]
    shape: tuple[int, ...]
    blocks: Iterable[NDArray[Any]]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return math.prod(self.shape) * _VALUE_BYTES[self.dtype]


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: theta (d,) float32, its layout, and the writer's metadata."""

    theta: NDArray[np.float32]
    layout: Layout
    metadata: dict[str, str]


class OpenFile(Protocol):
    """What is used of a `safetensors.safe_open` for numpy, which is not typed itself."""

    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> NDArray[Any]: ...
    def get_slice(self, name: str) -> Any: ...


def write_model(path: Path, theta: NDArray[np.float32], layout: Layout, metadata: Mapping[str, str]) -> None:
    """Write a model durably; `path` holds the whole model or what it held before, at any instant.

    Args:
        path: where to; an older file is replaced.
        theta: (d,) float32, contiguous.
        layout: names and shapes of the parameters, d values in all.
        metadata: further texts to keep; the key "layout" is taken.

    Raises:
        OstrakonError: there is no space left, or the folder cannot be written.
        ValueError: theta and layout do not fit together.
    """
    if theta.dtype != np.float32 or theta.shape != (parameters(layout),):
        raise ValueError(f"theta is {theta.dtype} {theta.shape}: expected float32 ({parameters(layout)},)")
    tensors, start = [], 0
    for name, shape in layout:
        end = start + math.prod(shape)
        tensors.append(Tensor(name, "F32", shape, [theta[start:end]]))
        start = end
    write_safetensors(path, tensors, {**metadata, _LAYOUT: json.dumps(layout)})


def read_model(path: Path) -> ModelFile:
    """Read what `write_model` wrote.

    Raises:
        OstrakonError: the file is missing, damaged, of another origin, or holds values that are not finite float32.
    """
    with open_safetensors(path, advice="write one with `python -m ostrakon.worker init`") as file:
        metadata = dict(file.metadata() or {})
        layout = _layout(path, metadata.pop(_LAYOUT, None))
        names = [name for name, _ in layout]
        if sorted(names) != sorted(file.keys()):
            raise OstrakonError(f"model file {path} is damaged: its layout names {names}, it holds {file.keys()}")
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
    return ModelFile(theta, layout, metadata)


def parameters(layout: Layout) -> int:
    """d: how many values the parameters of a layout have in all."""
    return sum(math.prod(shape) for _, shape in layout)


def write_safetensors(path: Path, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file durably: temporary name, fsync, rename, fsync of the folder.

    Blocks are taken one at a time as they are written, so they may be made on the way.

    Raises:
        OstrakonError: there is no space left, or the folder cannot be written.
        ValueError: the blocks of a tensor do not have its length.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        try:
            with open(temporary, "xb") as file:
                _write(file, tensors, metadata)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        trouble = disk_trouble(error, path)
        if trouble is not None:
            raise OstrakonError(trouble) from None
        raise OstrakonError(f"{path} cannot be written ({error}): its folder must exist and be writable") from None


def sweep(folder: Path) -> None:
    """Delete what writes that a crash ended have left in a folder."""
    for path in folder.glob(f".*.safetensors.*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


@contextmanager
def open_safetensors(path: Path, advice: str) -> Iterator[OpenFile]:
    """Open a safetensors file for numpy; `advice` ends the sentence for the user where it cannot be read.

    Raises:
        OstrakonError: the file is missing or damaged, at opening or later.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        raise OstrakonError(f"model file {path} does not exist: {advice}") from None
    except (OSError, SafetensorError) as error:
        raise OstrakonError(f"model file {path} is damaged or cannot be read ({error}): {advice}") from None


def check_tensor(path: Path, file: OpenFile, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another type or shape, before its values are read.

    Raises:
        OstrakonError: naming what was expected and what the file holds.
    """
    found = file.get_slice(name)
    found_dtype, found_shape = found.get_dtype(), tuple(found.get_shape())
    if (found_dtype, found_shape) != (dtype, shape):
        raise OstrakonError(
            f"model file {path}: {name} is {found_dtype} {found_shape}, expected {dtype} {shape}: "
            "use a file that this program wrote"
        )


def _layout(path: Path, text: str | None) -> Layout:
    try:
        if text is None:
            raise ValueError("it has none")
        return tuple((str(name), tuple(int(size) for size in shape)) for name, shape in json.loads(text))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise OstrakonError(
            f"model file {path} does not say in which order its parameters lie ({error}): "
            "use a file that `python -m ostrakon.worker init` or a server wrote"
        ) from None


def _finite(values: NDArray[np.float32]) -> bool:
    # No sum of float32 values overflows float64, and this makes no temporary array as np.isfinite would.
    with np.errstate(invalid="ignore"):
        return math.isfinite(values.sum(dtype=np.float64))


def _write(file: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.size],
        }
        offset += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for tensor in tensors:
        written = 0
        for block in tensor.blocks:
            written += file.write(block.data)
        if written != tensor.size:
            raise ValueError(f"the blocks of {tensor.name} have {written} bytes, not {tensor.size}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
