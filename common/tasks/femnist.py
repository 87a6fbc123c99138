"""Handwritten characters read from one npz file, such as FEMNIST (LEAF) saved as `x`, `y`."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.characters import SIDE, Characters, image_examples
from ostrakon.common.tasks.contract import Examples
from ostrakon.common.tasks.streams import POPULATION, stream

IMAGES_PER_CLASS = 15  # at most, for one worker
TEST_IMAGES_PER_CLASS = 20  # at most, and never more than a fifth of the class

# Mean and standard deviation of a pixel (background 1, ink 0) over 60,000 images of FEMNIST, rounded.
MEAN, STD = 0.962, 0.163

NAMES = ("x", "y")  # of the arrays

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Femnist(Characters):
    """The paper's homogeneous setting: a worker's labels are uniform over the 62 classes as far as the supply allows.

    The images of each class are shuffled by the seed, whoever wrote them; the first ones are the test set and each
    worker takes the next 15, or an equal share where the class has fewer. So no image is held twice, and a writer's
    images may be held by several workers and the test set.

    The file: `x` (N, 28, 28) uint8 with background 255 and ink 0; `y` (N,) integers, 0-9 digits, 10-35 A-Z, 36-61 a-z.
    Other arrays in it are left alone.
    """

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        chosen = []
        for supply in self._classes(seed):
            share = min(IMAGES_PER_CLASS, (len(supply) - _held_out(supply)) // workers)
            first = _held_out(supply) + worker * share
            chosen.append(supply[first : first + share])
        return self._examples(np.concatenate(chosen), f"for each of {workers} workers")

    def test_data(self, seed: int) -> Examples:
        return self._examples(
            np.concatenate([supply[: _held_out(supply)] for supply in self._classes(seed)]), "for a test set"
        )

    @cached_property
    def _file(self) -> tuple[Images, Labels]:
        if self.data is None:
            raise OstrakonError(
                "task femnist reads its images from a file: set data to the path of an npz with x and y"
            )
        return _read(self.data, self.classes)

    def _classes(self, seed: int) -> list[Labels]:
        """Of each class, the indices of its images in the order that the seed gives."""
        _, labels = self._file
        order = stream(seed, POPULATION).permutation(len(labels))
        return [order[labels[order] == label] for label in range(self.classes)]

    def _examples(self, chosen: Labels, purpose: str) -> Examples:
        images, labels = self._file
        if len(chosen) == 0:
            raise OstrakonError(
                f"data file {self.data} has too few images: {len(labels)} leave none {purpose}; use a larger file"
            )
        pixels = (images[chosen, None].astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
        return image_examples(pixels, labels[chosen])


def _held_out(supply: Labels) -> int:
    return min(TEST_IMAGES_PER_CLASS, len(supply) // 5)


def _read(path: Path, classes: int) -> tuple[Images, Labels]:
    """Read and check the file; raises OstrakonError with one sentence for whatever cannot be used."""
    arrays = _arrays(path)
    if missing := [name for name in NAMES if name not in arrays]:
        raise OstrakonError(f"data file {path} has no array {missing[0]}: expected an npz with x and y")
    images, labels = (arrays[name] for name in NAMES)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise OstrakonError(
            f"data file {path}: x must be uint8 of shape (N, {SIDE}, {SIDE}), but is {images.dtype} of {images.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise OstrakonError(
            f"data file {path}: y must hold {len(images)} integers, one for each image in x, "
            f"but is {labels.dtype} of {labels.shape}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise OstrakonError(
            f"data file {path}: labels in y must be 0 to {classes - 1}, but go from {labels.min()} to {labels.max()}"
        )
    return images, labels.astype(np.int64)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What the file holds of `NAMES`."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, NpzFile):
            return {}
        with file:
            return {name: file[name] for name in NAMES if name in file}
    except FileNotFoundError:
        raise OstrakonError(f"data file {path} does not exist: give the path of an npz with x and y") from None
    except MemoryError as error:
        raise OstrakonError(f"data file {path} does not fit into memory, or is damaged ({error})") from None
    except Exception as error:  # the readers of archives, of compressed data and of Python's literals raise their own
        why = next(iter(str(error).splitlines()), type(error).__name__)  # numpy goes on with advice to unpickle
        raise OstrakonError(f"data file {path} is damaged or is no npz ({why}): expected arrays x and y") from None
