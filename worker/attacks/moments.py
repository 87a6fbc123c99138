"""What attacks need to know of some vectors, (m, d) floating-point; summed in float64, a block of columns at a time."""

import torch
from torch import Tensor

from ostrakon.common.aggregation.matrix import column_blocks
from ostrakon.common.aggregation.means import means

_WIDTH = 1 << 14
"""Columns at a time."""


def mean(rows: Tensor) -> Tensor:
    """The mean, (d,), in memory of its own."""
    (result,) = means(rows, [range(len(rows))])
    return result


def deviation(rows: Tensor) -> Tensor:
    """The standard deviation of each coordinate, (d,), dividing by m."""
    result = torch.empty_like(rows[0])
    for columns in column_blocks(rows.shape[1], _WIDTH):
        result[columns] = rows[:, columns].double().std(dim=0, correction=0)
    return result


def lengths(rows: Tensor) -> Tensor:
    """The Euclidean norms, (m,) float64."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms
