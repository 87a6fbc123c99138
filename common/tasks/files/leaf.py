"""FEMNIST as LEAF (Caldas et al. 2018) writes it: JSON with the images of each of its users, who are the writers."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.files.image_set import ImageSet, check_labels, content_of

_EXPECTED = "LEAF's JSON, with users and user_data"


def read_leaf(paths: Sequence[Path], *, side: int, classes: int) -> ImageSet:
    """Read LEAF's JSON files as one data set; a user who stands in several is one writer.

    `users` lists the names, `user_data` has for each an `x`, images of side * side numbers 0 (ink) to 1 (background),
    and a `y`, their classes.

    Raises:
        OstrakonError: one sentence for whatever cannot be used.
    """
    numbers: dict[str, int] = {}
    pixels, labels, writers = [], [], []
    for path in paths:
        for user, images, classes_of in _users(path, side, classes):
            pixels.append(images)
            labels.append(classes_of)
            writers.append(np.full(len(images), numbers.setdefault(user, len(numbers)), np.int64))
    if not pixels:
        raise OstrakonError(f"data file {paths[0]} names no users: expected {_EXPECTED}")
    return ImageSet(np.concatenate(pixels), np.concatenate(labels), np.concatenate(writers))


def _users(path: Path, side: int, classes: int) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
    where = f"data file {path}"
    content = content_of(path, _EXPECTED)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError, MemoryError) as error:
        raise OstrakonError(f"{where} is damaged or no JSON ({error}): expected {_EXPECTED}") from None
    del content
    users, data = (found.get("users"), found.get("user_data")) if isinstance(found, dict) else (None, None)
    if not isinstance(users, list) or not isinstance(data, dict):
        raise OstrakonError(f"{where} has no users and user_data: expected LEAF's JSON")
    for user in users:
        own = data.get(user) if isinstance(user, str) else None
        if not isinstance(own, dict) or not isinstance(own.get("x"), list) or not isinstance(own.get("y"), list):
            raise OstrakonError(f"{where}: user_data holds no x and y of user {str(user)[:60]!r}, whom users names")
        of_user = f"{where}, user {user[:60]!r}"
        images, labels = _numbers(own["x"]), _numbers(own["y"])
        if not own["x"] and not own["y"]:
            continue
        if images is None or images.shape[1:] != (side * side,):
            raise OstrakonError(f"{of_user}: x must be a list of images of {side * side} numbers each")
        if not (images.min() >= 0 and images.max() <= 1):  # true for NaN
            raise OstrakonError(f"{of_user}: x must be numbers from 0 (ink) to 1 (background)")
        if labels is None:
            raise OstrakonError(f"{of_user}: y must be a list of integers")
        check_labels(of_user, labels, len(images), classes)
        yield user, np.rint(images * 255).astype(np.uint8).reshape(-1, side, side), labels.astype(np.int64)


def _numbers(values: list[Any]) -> NDArray[Any] | None:
    """A list, or one of equally long lists, as an array; None if it is none of numbers."""
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError):  # lists of several lengths, integers of many digits
        return None
    return found if found.dtype.kind in "iuf" else None
