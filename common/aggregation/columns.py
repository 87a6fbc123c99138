"""Passes over the (n, d) matrix, a block of columns at a time: what a block needs stays in cache."""

from collections.abc import Iterator

import torch
from torch import Tensor


def column_blocks(d: int, width: int) -> Iterator[slice]:
    """Consecutive slices of d columns, each `width` wide but the last, which has what is left."""
    for start in range(0, d, width):
        yield slice(start, min(start + width, d))


def finite_rows(x: Tensor) -> list[int]:
    """The rows of x, (n, d), that hold neither NaN nor infinity, ascending.

    One pass at the speed of memory: only rows whose sum is not finite are looked at again, number by number.
    """
    finite = torch.isfinite(x.sum(dim=1)).tolist()
    return [row for row, fine in enumerate(finite) if fine or bool(torch.isfinite(x[row]).all())]
