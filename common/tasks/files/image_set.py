"""Images as a file holds them, whatever its form."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError


@dataclass(frozen=True)
class ImageSet:
    """N images of one size.

    Attributes:
        pixels: (N, side, side) or (N, side, side, channels).
        labels: (N,), classes from 0.
        writers: (N,), who made each, as numbers; None where nobody knows, or asked.
        is_test: (N,), which of them an official split keeps for tests; None where there is none.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    writers: NDArray[np.int64] | None = None
    is_test: NDArray[np.bool_] | None = None


def together(parts: Sequence[ImageSet], is_test: Sequence[bool]) -> ImageSet:
    """Several sets as one; which of them are for tests matters where there are both."""
    whole = ImageSet(np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts]))
    if all(is_test) or not any(is_test):
        return whole
    return replace(whole, is_test=np.repeat(np.array(is_test), [len(part.labels) for part in parts]))


def check_images(where: str, images: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array that holds no images.

    Raises:
        OstrakonError: it is not (N, *shape) of uint8.
    """
    if images.dtype != np.uint8 or images.ndim != 1 + len(shape) or images.shape[1:] != shape:
        wanted = ", ".join(map(str, ("N", *shape)))
        raise OstrakonError(f"{where}: x must be uint8 of shape ({wanted}), but is {images.dtype} of {images.shape}")


def check_labels(where: str, labels: NDArray[Any], images: int, classes: int) -> None:
    """Refuse an array that does not hold the class of each image.

    Raises:
        OstrakonError: these are no integers (images,) from 0 to classes - 1.
    """
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (images,):
        raise OstrakonError(
            f"{where}: y must hold {images} integers, one for each image in x, but is {labels.dtype} of {labels.shape}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise OstrakonError(
            f"{where}: labels in y must be 0 to {classes - 1}, but go from {labels.min()} to {labels.max()}"
        )


def content_of(path: Path, expected: str) -> bytes:
    """All of a file.

    Raises:
        OstrakonError: it is not there, cannot be read or held; `expected` says what it should be.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise OstrakonError(f"data file {path} does not exist: give the path of {expected}") from None
    except OSError as error:
        raise OstrakonError(f"data file {path} cannot be read ({error.strerror}): expected {expected}") from None
    except MemoryError:
        raise OstrakonError(f"data file {path} does not fit into memory: use a smaller one") from None
