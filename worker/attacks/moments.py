"""What attacks need to know of some vectors, (m, d) floating-point; summed in float64.

Of many rounds at once, (..., m, d), each is what it would be alone: rows are added in the same order.
"""

import numpy as np
import torch
from torch import Tensor

from ostrakon.common.aggregation.matrix import column_blocks
from ostrakon.common.aggregation.means import means

_WIDTH = 1 << 14
"""Columns at a time."""


def mean(rows: Tensor) -> Tensor:
    """The means, (..., d), in memory of their own."""
    if rows.dim() == 2:
        (result,) = means(rows, [range(len(rows))])
        return result
    total = rows[..., 0, :].to(torch.float64, copy=True)
    for row in rows.unbind(-2)[1:]:
        total += row
    return total.div_(rows.shape[-2]).to(rows.dtype, copy=True)


def deviation(rows: Tensor) -> Tensor:
    """The standard deviation of each coordinate, (..., d), dividing by m."""
    result = torch.empty_like(rows[..., 0, :])
    for columns in column_blocks(rows.shape[-1], _WIDTH):
        result[..., columns] = rows[..., columns].double().std(dim=-2, correction=0)
    return result


def lengths(rows: Tensor) -> Tensor:
    """The Euclidean norms, (m,) float64."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms


def normals(like: Tensor, rng: np.random.Generator) -> Tensor:
    """Numbers from N(0, 1), of the shape, type and device of `like`, (m, d).

    One row after the other is drawn from rng in float32; on a GPU by a generator of its own, which rng seeds: to draw
    them on the CPU would take longer than the rest of a round.
    """
    if like.is_cuda:
        own = torch.Generator(like.device).manual_seed(int(rng.integers(2**63)))
        return torch.randn(like.shape, generator=own, dtype=torch.float32, device=like.device).to(like)
    return torch.from_numpy(rng.standard_normal(tuple(like.shape), dtype=np.float32)).to(like)
