"""What a rule returns, and the weighted sums of rows that it is made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ostrakon.common.aggregation import fused
from ostrakon.common.aggregation.matrix import Matrix, column_blocks, empty_like

_WIDTH = {"cpu": 1 << 17, "cuda": 1 << 22}
"""Columns at a time: so many that starting an operation costs nothing, so few that their sum stays in cache."""


@dataclass(frozen=True)
class Aggregate:
    """One vector made of a round's rows."""

    vector: Tensor
    """(d,), with the dtype and device of the rows, in memory of its own."""

    cluster: tuple[int, ...]
    """The rows that the rule decided on, ascending: those that it averages, or that Outer leaves out; after a
    pre-aggregation those that the chosen rows stand for; empty for rules that decide on none."""


def average(x: Matrix, f: int = 0) -> Aggregate:
    """Avg: the plain mean `(x_1 + ... + x_n) / n`, for comparison. One liar moves it wherever it likes.

    Source: Algorithm 1 without resilience. It checks nothing: `Rule.aggregate` refuses rows, n and f that do not fit.

    Args:
        x: (n, d) floating-point, finite.
        f: is not used.

    Returns:
        The mean, (d,); no cluster.

    >>> average(torch.tensor([[1.0], [2.0], [6.0]])).vector
    tensor([3.])
    """
    (vector,) = means(x, [range(x.shape[0])])
    return Aggregate(vector, ())


def means(x: Matrix, sets: Sequence[Sequence[int]], out: Tensor | None = None) -> list[Tensor]:
    """The means of several sets of rows.

    Rows are added one after another in float64, so that the sum of finite float32 rows cannot overflow, a row outside a
    set does not enter its mean even as zero times infinity, and the bits do not depend on the number of threads.

    Args:
        x: (n, d) floating-point.
        sets: m sets of row numbers, at least one each, in the order of summation.
        out: (m, d), where to write them; memory of their own when it is not given.

    Returns:
        m vectors (d,), with the dtype and device of x.
    """
    vectors = [empty_like(x, x.shape[1]) for _ in sets] if out is None else list(out.unbind())
    if (readable := fused.rows_of(x)) and all(list(rows) == sorted(set(rows)) for rows in sets):
        tensor, numbers = readable
        fused.means(tensor, [[numbers[row] for row in rows] for rows in sets], vectors)
        return vectors
    for rows, mean in zip(sets, vectors, strict=True):
        _sum(x, ((row, 1.0) for row in rows), len(rows), mean)
    return vectors


def weighted_mean(x: Matrix, weights: Tensor, total: float | None = None) -> Tensor:
    """`sum_i w_i x_i / total`, added up as in `means`; rows of weight 0 do not enter it.

    Args:
        x: (n, d) floating-point.
        weights: (n,) float64, on the CPU, not all 0.
        total: the divisor; the sum of the weights when it is not given.

    Returns:
        (d,), with the dtype and device of x.
    """
    result = empty_like(x, x.shape[1])
    divisor = float(weights.sum()) if total is None else total
    _sum(x, ((row, weight) for row, weight in enumerate(weights.tolist()) if weight), divisor, result)
    return result


def _sum(x: Matrix, terms: Iterable[tuple[int, float]], divisor: float, result: Tensor) -> None:
    chosen = list(terms)
    d, width = x.shape[1], _WIDTH[x.device.type]
    buffer = torch.empty(min(d, width), dtype=torch.float64, device=x.device)
    for columns in column_blocks(d, width):
        total = buffer[: columns.stop - columns.start].zero_()
        for row, weight in chosen:
            total.add_(x[row, columns], alpha=weight)
        result[columns] = total.div_(divisor)


def add_row(total: Tensor, row: Tensor) -> None:
    """Add a row, (d,), to a float64 sum, (d,). By blocks, since torch converts what it adds as a whole."""
    for columns in column_blocks(len(row), _WIDTH[row.device.type]):
        total[columns] += row[columns]
