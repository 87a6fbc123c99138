"""EMNIST (Cohen et al. 2017) by class, as NIST publishes it: pairs of IDX files, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.files.image_set import ImageSet, check_labels, content_of, together

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
GZIP, MAGIC = b"\x1f\x8b", b"\0\0\x08"  # of gzip; of unsigned bytes, and then the number of dimensions


def read_idx(paths: list[Path], *, side: int, classes: int) -> ImageSet:
    """Read files of images, and of labels beside them, as one data set.

    The files hold images with ink 255 on 0, each transposed; what is read has ink 0 on 255, and stands upright. Which
    are for tests is in the files' names.

    Args:
        paths: of the images; their labels are in the files called labels-idx1 instead of images-idx3.

    Raises:
        OstrakonError: one sentence for whatever cannot be used.
    """
    parts = [_pair(path, side, classes) for path in paths]
    return together(parts, ["test" in path.name for path in paths])


def _pair(path: Path, side: int, classes: int) -> ImageSet:
    if IMAGES not in path.name:
        raise OstrakonError(
            f"data file {path} has no labels beside it: expected a name as in emnist-byclass-train-{IMAGES}"
        )
    beside = path.with_name(path.name.replace(IMAGES, LABELS))
    if not beside.exists():  # one of the two may have been unpacked
        beside = beside.with_suffix("") if beside.suffix == ".gz" else beside.with_name(f"{beside.name}.gz")
    images, labels = _array(path, 3), _array(beside, 1)
    if images.shape[1:] != (side, side):
        raise OstrakonError(f"data file {path}: expected images of {side} x {side} pixels, found {images.shape[1:]}")
    check_labels(f"data file {beside}", labels, len(images), classes)
    return ImageSet(np.subtract(255, images.transpose(0, 2, 1), order="C"), labels.astype(np.int64))


def _array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    expected = f"an IDX file of unsigned bytes in {dimensions} dimension{'s' * (dimensions > 1)}"
    content = content_of(path, expected)
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error, MemoryError) as error:
            raise OstrakonError(f"data file {path} is damaged ({error}): expected {expected}, gzipped") from None
    header = 4 + 4 * dimensions
    if not content.startswith(MAGIC + bytes([dimensions])) or len(content) < header:
        raise OstrakonError(f"data file {path} is damaged or something else: expected {expected}")
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    size = len(content) - header
    if size != int(np.prod(shape, dtype=object)):
        raise OstrakonError(f"data file {path} is damaged: its header says {shape}, but {size} bytes follow")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
