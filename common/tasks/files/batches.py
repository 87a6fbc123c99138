"""CIFAR-10 (Krizhevsky 2009) as it is published for Python: a folder of pickled batches."""

from pathlib import Path

import numpy as np

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.files.image_set import ImageSet, check_labels, content_of, together
from ostrakon.common.tasks.files.pickled import read_pickled

_EXPECTED = "a batch of CIFAR-10"
_TEST = "test_batch"


def read_batches(folder: Path, *, side: int, channels: int, classes: int) -> ImageSet:
    """Read `data_batch_1`, ... and `test_batch`, as far as they are there.

    Each holds a dictionary with `data`, (m, channels * side * side) unsigned bytes, and `labels`, m integers.

    Raises:
        OstrakonError: one sentence for whatever cannot be used.
    """
    paths = [path for path in (*sorted(folder.glob("data_batch_[0-9]")), folder / _TEST) if path.exists()]
    if not paths:
        raise OstrakonError(
            f"data folder {folder} holds no batches of CIFAR-10: expected data_batch_1 to data_batch_5 and test_batch, "
            "as in cifar-10-batches-py"
        )
    return together([_batch(path, side, channels, classes) for path in paths], [path.name == _TEST for path in paths])


def _batch(path: Path, side: int, channels: int, classes: int) -> ImageSet:
    where = f"data file {path}"
    found = read_pickled(content_of(path, _EXPECTED), where)
    data, labels = (found.get("data"), found.get("labels")) if isinstance(found, dict) else (None, None)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != channels * side * side:
        raise OstrakonError(
            f"{where} has no data of images of {channels} x {side} x {side} bytes: expected {_EXPECTED}"
        )
    if type(labels) is not list or not all(type(label) is int and 0 <= label < classes for label in labels):
        raise OstrakonError(f"{where} has no labels from 0 to {classes - 1}: expected {_EXPECTED}")
    known = np.array(labels, np.int64)
    check_labels(where, known, len(data), classes)
    return ImageSet(data.reshape(-1, channels, side, side).transpose(0, 2, 3, 1), known)
