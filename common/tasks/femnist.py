"""Handwritten characters, from FEMNIST as LEAF writes it or in one npz file, or from EMNIST by class."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.characters import SIDE, Characters
from ostrakon.common.tasks.files.idx import GZIP, IMAGES, MAGIC, read_idx
from ostrakon.common.tasks.files.image_set import ImageSet
from ostrakon.common.tasks.files.leaf import read_leaf
from ostrakon.common.tasks.files.npz import read_npz
from ostrakon.common.tasks.images import PartitionedImages

# Mean and standard deviation of a pixel (background 1, ink 0) over 60,000 images of FEMNIST, rounded.
MEAN, STD = 0.962, 0.163

_LEAF, _IDX = "all_data*.json", f"*byclass*{IMAGES}*"


class Femnist(PartitionedImages, Characters):
    """FEMNIST in the paper's settings; homogeneous, uniform over the 62 classes, where no partition is named.

    The data, told apart by what is there:

    * an npz: `x` (N, 28, 28) uint8 with background 255 and ink 0; `y` (N,) integers, 0-9 digits, 10-35 A-Z, 36-61 a-z;
      for `by_writer` also `writer` (N,) integers;
    * LEAF's JSON: a folder of `all_data*.json`, or one such file;
    * EMNIST's IDX by class: a folder, or one file of images with its labels beside it, gzipped or not.
    """

    TRAINING, TEST = 750, 150
    PER_CLASS, TEST_PER_CLASS = 15, 20

    def read(self, path: Path, *, writers: bool) -> ImageSet:
        kinds = {"side": SIDE, "classes": self.classes}
        if path.is_dir():
            if found := sorted(path.glob(_LEAF)):
                return read_leaf(found, **kinds)
            if found := sorted(path.glob(_IDX)):
                return read_idx(_unpacked_once(found), **kinds)
            raise OstrakonError(
                f"data folder {path} is damaged or holds something else: expected {_LEAF} of LEAF, or the IDX files of "
                f"EMNIST, {_IDX}"
            )
        begins = _beginning(path)
        if begins.lstrip().startswith(b"{"):
            return read_leaf([path], **kinds)
        if begins.startswith((GZIP, MAGIC)):
            return read_idx([path], **kinds)
        return read_npz(path, shape=(SIDE, SIDE), classes=self.classes, also=("writer",) if writers else ())

    def standardised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (pixels[:, None].astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


def _unpacked_once(paths: list[Path]) -> list[Path]:
    """Files without those that lie beside their unpacked form."""
    return [path for path in paths if not (path.suffix == ".gz" and path.with_suffix("") in paths)]


def _beginning(path: Path) -> bytes:
    """A file's first bytes; none of what cannot be read, for its reader to say so."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError:
        return b""
