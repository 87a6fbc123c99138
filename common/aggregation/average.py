"""What a rule returns, and the means that it is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.aggregation.columns import column_blocks


@dataclass(frozen=True)
class Aggregate:
    """One vector made of a round's rows."""

    vector: Tensor
    """(d,), with the dtype and device of the rows, freshly allocated; not finite if a row that enters it is not."""

    cluster: tuple[int, ...]
    """Rows of the tight cluster that the rule found, ascending: those that Inner averages, those that Outer leaves
    out; empty for rules that look for none."""


def average(x: Tensor) -> Aggregate:
    """The plain mean of all rows of x, (n, d)."""
    (vector,) = means(x, [range(x.shape[0])])
    return Aggregate(vector, ())


def means(x: Tensor, sets: Sequence[Sequence[int]]) -> list[Tensor]:
    """The means of several sets of rows, in one pass over x.

    Rows are added one after another in float64, so that the sum of finite float32 rows cannot overflow, a row outside a
    set does not enter its mean even as zero times infinity, and the bits do not depend on the number of threads.

    Args:
        x: (n, d) floating-point.
        sets: row numbers, at least one each, in the order of summation.

    Returns:
        For each set a new (d,) tensor with the dtype and device of x.
    """
    vectors = [torch.empty_like(x[0]) for _ in sets]
    for columns in column_blocks(x, rows=4):  # the sum, its quotient, and a row before and after conversion
        for rows, vector in zip(sets, vectors, strict=True):
            total = torch.zeros(columns.stop - columns.start, dtype=torch.float64, device=x.device)
            for row in rows:
                total += x[row, columns]
            vector[columns] = total / len(rows)
    return vectors
