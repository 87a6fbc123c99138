"""The run's model files: each theta_t with the running sum of theta_1..theta_t, named by their content.

A theta may recur with another sum (a step of zero brings theta_{t-1} back). Its file then has another name, so that
a candidate that is written ahead of its commit never replaces a committed model.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import NOTHING_FIXED, FixedPart, read_fixed_part
from ostrakon.common.run_files import CONSTANTS
from ostrakon.common.safetensors_file import Tensor, check_tensor, open_safetensors, sweep, write_safetensors

_BLOCK = 1 << 18  # values: 2 MiB of float64
_ADVICE = "put the run's folder back from a backup"


@dataclass(frozen=True)
class ModelKey:
    """What names a stored model: the digests of theta_t and of theta_1 + ... + theta_t."""

    digest: str
    running_sum: str


@dataclass(frozen=True)
class Stored:
    """theta (d,) float32 and the running sum (d,) float64."""

    theta: NDArray[np.float32]
    running_sum: NDArray[np.float64]


def initial_key(theta_0: str, parameters: int) -> ModelKey:
    """The key of theta_0, given its digest and d: theta_0 is not part of the running sum, which is all zeros."""
    sha256 = hashlib.sha256()
    for start in range(0, parameters, _BLOCK):
        sha256.update(bytes(8 * min(_BLOCK, parameters - start)))
    return ModelKey(theta_0, sha256.hexdigest())


class ModelStore:
    """The models in one folder, which is made if it does not exist.

    Raises:
        OstrakonError: the folder cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OstrakonError(f"model folder {directory} cannot be made ({error}): give a writable folder") from None

    def path(self, key: ModelKey) -> Path:
        """Where a model lies, if it is stored."""
        # 64 bits of the sum's digest tell files apart; `read` checks all of it.
        return self._directory / f"{key.digest}.{key.running_sum[:16]}.safetensors"

    def write(self, theta: NDArray[np.float32], running_sum_before: NDArray[np.float64] | None) -> ModelKey:
        """Store a model durably, with the new running sum, which is made one block at a time.

        Args:
            theta: (d,) float32, contiguous.
            running_sum_before: (d,) float64, the sum up to the model before; None where theta is theta_0.

        Raises:
            OstrakonError: there is no space left, or the folder cannot be written.
            ValueError: theta and the sum do not fit together.
        """
        if theta.dtype != np.float32 or theta.ndim != 1:
            raise ValueError(f"theta is {theta.dtype} {theta.shape}: expected float32 (d,)")
        if running_sum_before is None:
            key = initial_key(digest(theta), theta.size)
        elif running_sum_before.dtype != np.float64 or running_sum_before.shape != theta.shape:
            found = f"{running_sum_before.dtype} {running_sum_before.shape}"
            raise ValueError(f"the running sum is {found}: expected float64 {theta.shape}")
        else:
            # The sum is made twice, for its name and for the file: cheaper than keeping it.
            sha256 = hashlib.sha256()
            for block in _sum(theta, running_sum_before):
                sha256.update(block.data)
            key = ModelKey(digest(theta), sha256.hexdigest())
        self._write(key, theta, _sum(theta, running_sum_before))
        return key

    def write_again(self, key: ModelKey, theta: NDArray[np.float32], running_sum: NDArray[np.float64]) -> None:
        """Store a model whose file was lost, durably, if this is it: (d,) float32, and its sum, (d,) float64.

        Raises:
            OstrakonError: it is another model or another sum; there is no space left, or the folder cannot be written.
        """
        found = ModelKey(digest(theta), digest(running_sum))
        if found != key:
            raise OstrakonError(f"what was to be written as model file {self.path(key)} is {found}: {_ADVICE}")
        self._write(key, theta, [running_sum])

    def _write(self, key: ModelKey, theta: NDArray[np.float32], running_sum: Iterable[NDArray[np.float64]]) -> None:
        tensors = [
            # The wider type first: both then lie aligned, whatever d is.
            Tensor("running_sum", "F64", theta.shape, running_sum),
            Tensor("theta", "F32", theta.shape, [theta]),
        ]
        write_safetensors(self.path(key), tensors, {})

    def read(self, key: ModelKey) -> Stored:
        """Read a model and check that it is the one asked for.

        Raises:
            OstrakonError: the file is missing or damaged.
        """
        path = self.path(key)
        with open_safetensors(path, _ADVICE) as file:
            if sorted(file.keys()) != ["running_sum", "theta"]:
                raise OstrakonError(f"model file {path} is damaged: it holds {file.keys()}: {_ADVICE}")
            shape = (math.prod(file.get_slice("theta").get_shape()),)
            check_tensor(path, file, "theta", "F32", shape)
            check_tensor(path, file, "running_sum", "F64", shape)
            stored = Stored(file.get_tensor("theta"), file.get_tensor("running_sum"))
        for name, found, expected in (
            ("theta", digest(stored.theta), key.digest),
            ("running_sum", digest(stored.running_sum), key.running_sum),
        ):
            if found != expected:
                raise OstrakonError(
                    f"model file {path} is damaged: {name} has digest {found}, expected {expected}: {_ADVICE}"
                )
        return stored

    def theta(self, name: str) -> NDArray[np.float32] | None:
        """The model with this digest, (d,) float32, from whichever file has it whole; None if none has."""
        for path in sorted(self._directory.glob(f"{name}.*.safetensors")):
            found = _tensor(path, "theta", np.dtype(np.float32))
            if found is not None and digest(found) == name:
                return found
        return None

    def running_sum(self, key: ModelKey) -> NDArray[np.float64] | None:
        """The running sum of a model, (d,) float64, whatever became of the model beside it; None if it is damaged."""
        found = _tensor(self.path(key), "running_sum", np.dtype(np.float64))
        return found if found is not None and digest(found) == key.running_sum else None

    def delete(self, key: ModelKey) -> None:
        """Forget a model, stored or not."""
        self.path(key).unlink(missing_ok=True)

    def prune(self, keep: Collection[ModelKey]) -> None:
        """Delete every model but these, and temporary files that a crash left.

        Call it while no candidate waits for its commit: it would be deleted. What a server of a smaller term still
        writes may go: it cannot commit it any more.
        """
        kept = {self.path(key) for key in keep}
        for path in self._directory.glob("*.safetensors"):
            if path not in kept:
                path.unlink(missing_ok=True)
        sweep(self._directory)

    def others(self, keep: Collection[ModelKey]) -> list[str]:
        """Names of stored models, but for these."""
        kept = {self.path(key) for key in keep}
        return sorted(path.name for path in self._directory.glob("*.safetensors") if path not in kept)


def _sum(theta: NDArray[np.float32], before: NDArray[np.float64] | None) -> Iterator[NDArray[np.float64]]:
    for start in range(0, theta.size, _BLOCK):
        block = theta[start : start + _BLOCK]
        yield np.zeros(block.shape) if before is None else before[start : start + _BLOCK] + block


def _tensor(path: Path, name: str, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """A tensor of one dimension, from a file that may be damaged."""
    with suppress(OstrakonError), open_safetensors(path, _ADVICE) as file:
        if name in list(file.keys()):
            found = file.get_tensor(name)
            return found if found.dtype == dtype and found.ndim == 1 else None
    return None


def stored_fixed_part(directory: Path, name: str | None) -> FixedPart:
    """What the model of the run in a folder holds beside theta.

    Args:
        name: its digest, as the genesis has it.

    Raises:
        OstrakonError: its file is missing or damaged.
    """
    path = directory / CONSTANTS
    if not name and not path.exists():
        return NOTHING_FIXED
    found = read_fixed_part(path)
    if (digest := found.digest()) != name:
        raise OstrakonError(f"{path} is damaged: it has digest {digest}, expected {name}: {_ADVICE}")
    return found
