"""Small files of images in the forms that data sets are published in."""

import gzip
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def leaf(users: dict[str, tuple[Images, list[int]]]) -> str:
    """LEAF's JSON: each user's images (m, 28, 28), background 255, and their classes."""
    data = {
        user: {"x": (images.reshape(len(images), -1) / 255).tolist(), "y": classes}
        for user, (images, classes) in users.items()
    }
    return json.dumps({"users": list(users), "num_samples": [len(y) for _, y in users.values()], "user_data": data})


def idx(values: Images) -> bytes:
    """An IDX file of unsigned bytes."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_emnist(folder: Path, part: str, images: Images, classes: list[int], *, zipped: bool = False) -> Path:
    """EMNIST's pair of files for upright images (m, 28, 28) with background 255; returns the path of the images."""
    ending = ".gz" if zipped else ""
    pack = gzip.compress if zipped else bytes
    of_images = folder / f"emnist-byclass-{part}-images-idx3-ubyte{ending}"
    of_images.write_bytes(pack(idx(255 - images.transpose(0, 2, 1))))
    labels = folder / f"emnist-byclass-{part}-labels-idx1-ubyte{ending}"
    labels.write_bytes(pack(idx(np.array(classes, np.uint8))))
    return of_images


def batch(images: Images, classes: list[int], *, before: bytes = b"", reduce: bytes = b"") -> bytes:
    """A batch of CIFAR-10 as Python 2 pickled it, of images (m, 32, 32, 3).

    Args:
        before: instructions in front of all others.
        reduce: another name than numpy's for what makes the array.
    """
    content = images.transpose(0, 3, 1, 2).tobytes()
    shape = _number(len(images)) + _number(3072) + pickle.TUPLE2
    kind = (
        b"cnumpy\ndtype\n"
        + _text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + _text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    name = reduce or b"cnumpy.core.multiarray\n_reconstruct\n"
    array = name + b"q\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09" + _text(b"b") + b"\x87R(K\x01" + shape + kind + b"\x89T"
    array += struct.pack("<i", len(content)) + content + b"tb"
    labels = b"](" + b"".join(map(_number, classes)) + b"e"
    entries = _text(b"batch_label") + _text(b"batch 1 of 5") + _text(b"labels") + labels + _text(b"data") + array
    return b"\x80\x02" + before + b"}q\x01(" + entries + b"u."


def _text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def _number(value: int) -> bytes:
    return b"M" + struct.pack("<H", value)


def write_npz(path: Path, **arrays: NDArray[Any]) -> Path:
    np.savez(path, **arrays)
    return path
