"""Rounds to try rules on: matrices of kinds that a rule could stumble over."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Rows = NDArray[Any]
MAXIMUM = float(np.finfo(np.float32).max)
KINDS = ("random", "clustered", "far", "ties", "duplicates", "huge", "hierarchy", "tiny", "constant")
WHOLE = ("ties", "duplicates")  # once rounded: their distances are exact in any arithmetic


def make(kind: str, n: int, f: int, d: int, seed: int, dtype: Any = np.float32) -> Rows:
    """One matrix of a round."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((n, d))
    if kind == "clustered":
        x = 1e-2 * x + draw.standard_normal((3, d))[draw.integers(0, 3, n)]
    elif kind == "far":  # near-identical rows far from the origin
        x = 1e-3 * x + 1e4
    elif kind == "ties":
        x = draw.integers(-2, 3, (n, d)).astype(np.float64)
    elif kind == "duplicates":
        x = x[draw.integers(0, max(1, n // 2), n)] + 1e5
    elif kind == "huge":  # some or all of the f are
        x = x + 10
        for row in draw.permutation(n)[: draw.integers(0, f + 1)]:
            x[row] = draw.choice([1e5, 1e10, 1e30, 3e38]) * draw.choice([-1, 1], d)
    elif kind == "hierarchy":  # groups within groups, each far from the origin by its own spread
        x = 1e-2 * x + 1e3 * draw.standard_normal((2, d))[draw.integers(0, 2, n)] + 1e6
    elif kind == "tiny":  # squares below what float32 can hold
        x = 1e-22 * x
    elif kind == "constant":  # rounding errors of a sum that all have one direction
        x = np.repeat(x[:, :1], d, axis=1)
    return x.astype(dtype)


@st.composite
def rounds(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = KINDS,
    most: int = 60,
    least: int = 1,
    per_f: int = 2,
    more: int = 1,
    widths: tuple[int, ...] = (1, 2, 7, 40),
) -> tuple[Rows, int]:
    """A matrix of `least` to `most` rows and an f with n >= per_f * f + more."""
    n = draw(st.integers(max(least, more), most))
    f = draw(st.integers(0, (n - more) // per_f))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return make(
        draw(st.sampled_from(kinds)), n, f, draw(st.sampled_from(widths)), draw(st.integers(0, 2**32 - 1)), dtype
    ), f
