"""The name of a model is its content."""

import hashlib

import numpy as np
from numpy.typing import NDArray

DIGEST_SCHEME = "sha256/float32le"


def digest(vector: NDArray[np.generic]) -> str:
    """Name a vector by its content.

    Args:
        vector: contiguous array of any shape; its bytes are hashed as they lie in memory, which on every
            platform that Ostrakon runs on is little-endian.

    Returns:
        Lower-case hexadecimal SHA-256, 64 characters.
    """
    return hashlib.sha256(vector.data.cast("B")).hexdigest()
