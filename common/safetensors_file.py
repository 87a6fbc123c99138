"""Safetensors files, written durably and block by block, read with every tensor checked before its values are.

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
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ostrakon.common.errors import OstrakonError, disk_trouble

TEMPORARY_SUFFIX = ".tmp"  # of a file that is being written; one left behind by a crash may be deleted

_VALUE_BYTES = {
    **{"F64": 8, "I64": 8, "F32": 4, "I32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
_COPIED = 1 << 20  # bytes read at a time of tensors that are only passed on


@dataclass(frozen=True)
class Tensor:
    """One tensor to write: its blocks, one after the other, hold the values in C order."""

    name: str
    dtype: str  # as safetensors call it
    shape: tuple[int, ...]
    blocks: Iterable[NDArray[Any]]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return math.prod(self.shape) * _VALUE_BYTES[self.dtype]


class OpenFile(Protocol):
    """What is used of a `safetensors.safe_open`, which is not typed itself."""

    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> NDArray[Any]: ...
    def get_slice(self, name: str) -> Any: ...


def write_safetensors(path: Path, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file durably: temporary name, fsync, rename, fsync of the folder.

    Wide types come first, so that each tensor lies aligned.

    Blocks are taken one at a time as they are written, so they may be made on the way.

    Raises:
        OstrakonError: there is no space left, or the folder cannot be written.
        ValueError: the blocks of a tensor do not have its length.
    """
    tensors = sorted(tensors, key=lambda tensor: -_VALUE_BYTES[tensor.dtype])
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
def open_safetensors(path: Path, advice: str, framework: str = "numpy") -> Iterator[OpenFile]:
    """Open a safetensors file for numpy, or for torch: "pt"; `advice` ends the sentence where it cannot be read.

    Raises:
        OstrakonError: the file is missing or damaged, at opening or later.
    """
    try:
        with safe_open(path, framework=framework) as file:
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


@dataclass(frozen=True)
class _Stored:
    """Some bytes of a file, read whenever they are asked for."""

    path: Path
    start: int
    size: int

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            for at in range(0, self.size, _COPIED):
                yield np.frombuffer(file.read(min(_COPIED, self.size - at)), np.uint8)


def stored_tensors(path: Path, names: Sequence[str]) -> Iterator[Tensor]:
    """Tensors of a file that safetensors has found to be whole, to be passed on: numpy need not know their types.

    Raises:
        OstrakonError: one is of a type that is not written here.
    """
    if not names:
        return
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    for name in names:
        if header[name]["dtype"] not in _VALUE_BYTES:
            raise OstrakonError(
                f"model file {path}: {name} is {header[name]['dtype']}: use a file that this program wrote"
            )
        start, end = header[name]["data_offsets"]
        blocks = _Stored(path, 8 + length + start, end - start)
        yield Tensor(name, header[name]["dtype"], tuple(header[name]["shape"]), blocks)


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
