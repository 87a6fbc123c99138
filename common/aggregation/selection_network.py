"""Order statistics of every coordinate at once, by comparing whole rows.

A sorting network compares fixed pairs of positions, so that one minimum and one maximum of two rows do the work of d
comparisons. What the wanted ranks do not need is left out of it beforehand.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ostrakon.common.aggregation.matrix import Matrix, column_blocks

LARGEST_NETWORK = 256
"""Rows beyond which torch.sort is used: a network has about n (log n)^2 / 4 comparisons."""

_BLOCK_NUMBERS = {"cpu": 1 << 19, "cuda": 1 << 25}
"""Numbers in a block: as many as a core's second-level cache holds, or enough to keep a GPU busy."""


class Comparison(NamedTuple):
    """Put the smaller of two rows at position `low`, the larger at `high`; or only the one that is needed."""

    low: int
    high: int
    keep_low: bool
    keep_high: bool


@lru_cache(maxsize=64)
def network(n: int, first: int, last: int, ordered: bool) -> tuple[Comparison, ...]:
    """Comparisons that bring the ranks first, ..., last - 1 of n values to these positions.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M), read from its end: a
    comparison whose two results are both thrown away, or both wanted but not told apart, is dropped.

    Args:
        n: how many values.
        first: the least rank wanted, from 0.
        last: one more than the greatest, at most n.
        ordered: whether the wanted values must stand in their order.
    """
    below, wanted, above, needed = range(4)
    state = [below] * first + [needed if ordered else wanted] * (last - first) + [above] * (n - last)
    kept = []
    for low, high in reversed(list(_merge_exchange(n))):
        lower, upper = state[low], state[high]
        unused = (below, above)
        if (lower == upper and lower != needed) or (lower in unused and upper in unused):
            continue
        kept.append(Comparison(low, high, lower not in unused, upper not in unused))
        state[low] = state[high] = needed
    return tuple(reversed(kept))


def ranked_blocks(
    x: Matrix, rows: list[int], first: int, last: int, *, ordered: bool = False
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Per block of columns: the values of rank first, ..., last - 1 of every coordinate of some rows of x.

    Args:
        x: (n, d) floating-point, finite; it is not written to.
        rows: m row numbers.
        first: the least rank wanted, from 0.
        last: one more than the greatest, at most m.
        ordered: whether the values must come in ascending order.

    Returns:
        The columns of the block, and last - first tensors with the values of these ranks, to be read before the next.
    """
    n = len(rows)
    for columns in column_blocks(x.shape[1], max(256, _BLOCK_NUMBERS[x.device.type] // n)):
        if n > LARGEST_NETWORK:
            block = torch.stack([x[row, columns] for row in rows])
            yield columns, list(_sorted(block, first, last))
        else:
            yield columns, _run(network(n, first, last, ordered), [x[row, columns] for row in rows])[first:last]


def _run(comparisons: tuple[Comparison, ...], values: list[Tensor]) -> list[Tensor]:
    spare: list[Tensor] = []
    own = [False] * len(values)  # whether a position holds memory of this block, or still a row of x

    def fresh() -> Tensor:
        return spare.pop() if spare else torch.empty_like(values[0])

    for low, high, keep_low, keep_high in comparisons:
        one, other = values[low], values[high]
        if keep_low:
            values[low] = torch.minimum(one, other, out=fresh())
        if keep_high:
            values[high] = torch.maximum(one, other, out=other if own[high] else fresh())
        elif own[high]:
            spare.append(other)
        if own[low]:
            spare.append(one)
        own[low], own[high] = keep_low, keep_high
    return values


def _sorted(block: Tensor, first: int, last: int) -> Tensor:
    if last - first <= 2:  # selection in linear time
        return torch.stack([block.kthvalue(rank + 1, dim=0).values for rank in range(first, last)])
    return block.sort(dim=0).values[first:last]


def _merge_exchange(n: int) -> Iterator[tuple[int, int]]:
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            for i in range(n - d):
                if i & p == r:
                    yield i, i + d
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
