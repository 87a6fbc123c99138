"""Rules that look at one coordinate at a time.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2. None of them decides on rows, so `Aggregate.cluster` is empty. They check nothing: `Rule.aggregate`
refuses rows, n and f that do not fit.
"""

import torch
from torch import Tensor

from ostrakon.common.aggregation import fused
from ostrakon.common.aggregation.matrix import Matrix, empty_like
from ostrakon.common.aggregation.means import Aggregate
from ostrakon.common.aggregation.selection_network import ranked_blocks


def coordinatewise_median(x: Matrix, f: int = 0) -> Aggregate:
    """CWM: `F(X)_k = median(x_1k, ..., x_nk)` in every coordinate k; with even n the mean of the two in the middle.

    Source: Yin et al. 2018, Byzantine-Robust Distributed Learning.

    Args:
        x: (n, d) floating-point, finite.
        f: is not used.

    Returns:
        The medians, (d,); no cluster.

    >>> coordinatewise_median(torch.tensor([[1.0, 5.0], [2.0, 9.0], [70.0, 6.0]])).vector
    tensor([2., 6.])
    """
    return Aggregate(mean_of_ranks(x, f=(x.shape[0] - 1) // 2), ())


def coordinatewise_trimmed_mean(x: Matrix, f: int) -> Aggregate:
    """CWTM: `F(X)_k = (x_(f+1)k + ... + x_(n-f)k) / (n-2f)`, of the values of coordinate k in ascending order.

    So the f smallest and the f largest are left out. Source: Yin et al. 2018, Byzantine-Robust Distributed Learning.

    Returns:
        The trimmed means, (d,); no cluster.

    >>> coordinatewise_trimmed_mean(torch.tensor([[1.0], [2.0], [3.0], [5.0], [70.0]]), 1).vector
    tensor([3.3333])
    """
    return Aggregate(mean_of_ranks(x, f), ())


def mean_around_median(x: Matrix, f: int) -> Aggregate:
    """Meamed: `F(X)_k` is the mean of the n-f values `x_ik` with the least `|x_ik - median_k|`, the median as in CWM.

    A tie goes to the smaller values. Source: Xie et al. 2018, Generalized Byzantine-tolerant SGD.

    Returns:
        The means, (d,); no cluster.

    >>> mean_around_median(torch.tensor([[1.0], [2.0], [3.0], [5.0], [70.0]]), 1).vector
    tensor([2.7500])
    """
    n = x.shape[0]
    return Aggregate(nearest_to_median(x, list(range(n)), n - f), ())


def nearest_to_median(x: Matrix, rows: list[int], size: int) -> Tensor:
    """In every coordinate the mean of the `size` values nearest to the median of some rows: (d,).

    Among sorted values these are neighbours. From the smallest on, they move up as long as the value that would come in
    is nearer than the one that would go out.
    """
    m = len(rows)
    result = empty_like(x, x.shape[1])
    for columns, ascending in ranked_blocks(x, rows, 0, m, ordered=True):
        median = (ascending[(m - 1) // 2].double() + ascending[m // 2]) / 2
        near = ascending[:size]
        for smallest, (lower, upper) in enumerate(zip(ascending, ascending[size:], strict=False)):
            near[smallest % size] = torch.where(median - lower > upper - median, upper, near[smallest % size])
        total = torch.zeros_like(median)
        for value in near:
            total += value
        result[columns] = total / size
    return result


def mean_of_ranks(x: Matrix, f: int) -> Tensor:
    """In every coordinate the mean of what is left without the f smallest and the f largest values: (d,)."""
    n = x.shape[0]
    if (readable := fused.rows_of(x)) and n <= fused.LARGEST_NETWORK:
        return fused.mean_of_ranks(*readable, f, n - f)
    result = empty_like(x, x.shape[1])
    for columns, values in ranked_blocks(x, list(range(n)), f, n - f):
        total = torch.zeros_like(values[0], dtype=torch.float64)
        for value in values:
            total += value
        result[columns] = total / len(values)
    return result
