"""Images in one npz file: arrays `x` and `y`, and where they are wanted `writer` and `test`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.files.image_set import ImageSet, check_images, check_labels

_NEEDED = ("x", "y")


def read_npz(path: Path, *, shape: tuple[int, ...], classes: int, also: tuple[str, ...] = ()) -> ImageSet:
    """Read an npz file of images.

    Args:
        shape: of one image.
        classes: how many there are.
        also: which of `writer`, (N,) integers, and `test`, (N,) bool, are wanted where they are there.

    Raises:
        OstrakonError: one sentence for whatever cannot be used.
    """
    arrays = _arrays(path, (*_NEEDED, *also))
    where = f"data file {path}"
    if missing := [name for name in _NEEDED if name not in arrays]:
        raise OstrakonError(f"{where} has no array {missing[0]}: expected an npz with x and y")
    images, labels = (arrays[name] for name in _NEEDED)
    check_images(where, images, shape)
    check_labels(where, labels, len(images), classes)
    writers, is_test = arrays.get("writer"), arrays.get("test")
    for name, values, kinds in (("writer", writers, "iu"), ("test", is_test, "b")):
        if values is not None and (values.dtype.kind not in kinds or values.shape != labels.shape):
            kind = "bool" if kinds == "b" else "integers"
            raise OstrakonError(
                f"{where}: {name} must hold {len(labels)} {kind}, one for each image in x, but is {values.dtype} of "
                f"{values.shape}"
            )
    return ImageSet(images, labels.astype(np.int64), None if writers is None else writers.astype(np.int64), is_test)


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """What the file holds of these."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, NpzFile):
            return {}
        with file:
            return {name: file[name] for name in names if name in file}
    except FileNotFoundError:
        raise OstrakonError(f"data file {path} does not exist: give the path of an npz with x and y") from None
    except MemoryError as error:
        raise OstrakonError(f"data file {path} does not fit into memory, or is damaged ({error})") from None
    except Exception as error:  # the readers of archives, of compressed data and of Python's literals raise their own
        why = next(iter(str(error).splitlines()), type(error).__name__)  # numpy goes on with advice to unpickle
        raise OstrakonError(f"data file {path} is damaged or is no npz ({why}): expected arrays x and y") from None
