"""Attacks of a worker that sees nothing but its own momentum.

Each function is `(momentum, rng, **parameters) -> what is sent instead`, all vectors (d,) float32, and none writes
into the momentum: the worker goes on with the true one.
"""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


def sign_flipping(momentum: Vector, rng: np.random.Generator, *, scale: float = 1.0) -> Vector:
    """SF: `-scale * m`. Source: the paper's SF, there with scale 1.

    >>> sign_flipping(np.array([1, -2], np.float32), np.random.default_rng(0), scale=10)
    array([-10.,  20.], dtype=float32)
    """
    return np.float32(-scale) * momentum


def gaussian(momentum: Vector, rng: np.random.Generator, *, scale: float = 1.0) -> Vector:
    """Gauss: `scale * |m| * z / |z|`, z drawn from N(0, I). Source: the paper's Gauss, there with scale 1.

    >>> sent = gaussian(np.array([3, 4], np.float32), np.random.default_rng(0))
    >>> round(float(np.linalg.norm(sent)), 3)
    5.0
    """
    noise = rng.standard_normal(momentum.shape, dtype=np.float32)
    return np.float32(scale * _norm(momentum) / _norm(noise)) * noise


def unchanged(momentum: Vector, rng: np.random.Generator) -> Vector:
    """LF: `m` itself; the lie is in the labels that it was trained on. Source: the paper's LF."""
    return momentum


def _norm(vector: Vector) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))
