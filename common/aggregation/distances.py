"""How far rows are from each other, exactly enough that no row can blur it.

The Gram form |a|^2 + |b|^2 - 2ab loses the digits of near rows that lie far from its reference, which a worker can
bring about. Here every distance is a sum of squared differences, whose relative error is the same for every input: in
float32 first, which is as fast as a Gram product, and in float64 again for the few pairs on which a decision hangs.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ostrakon.common.aggregation import fused, fused_distances
from ostrakon.common.aggregation.matrix import ChosenRows, Matrix, all_finite, blocks, column_blocks

_SINGLE_WIDTH = {"cpu": 384, "cuda": 1 << 14}
"""Columns summed in float32 before the sum moves to float64: few, so that rounding stays small."""

_AT_ONCE = 1 << 18
"""Distances of several blocks that are added up at once: starting an operation takes as long as it does for one."""

_LANES = {"cpu": 8 if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") else 4, "cuda": 256}
"""How many partial sums `torch.pdist` makes of a block: lanes of its vectors (8 with AVX-512 too), threads on a GPU."""

_ROUNDING = 2.0**-24

_SINGLE_LEAST, _SINGLE_MOST = 2.0**-126, 2.0**126
"""A square below the first is rounded to nothing in float32; sums beyond the second are not trusted to fit."""

_DOUBLE_BYTES = {"cpu": 1 << 21, "cuda": 1 << 26}
"""What a block of float64 rows may take: about the second-level cache of one core."""

_POINT_WIDTH = {"cpu": 1 << 11, "cuda": 1 << 18}
"""Columns in a block, however many rows there are: a row alone is as far from a point as among others."""

_SINGLE_ROW_TIME = 4
"""What a distance to one given row takes, in times of one among all pairs of some rows."""

_KEEP_40_BITS = 2.0**13 + 1  # of 53 (Veltkamp's splitting)


class Ascending(NamedTuple):
    """Of each row the distances to all rows, itself included, and their bounds: each in its own order, (n, n)."""

    squared: Tensor
    low: Tensor
    high: Tensor


class Distances:
    """Squared Euclidean distances between all pairs of rows, as (n, n) float64 matrices on the CPU.

    They are symmetric, zero between equal rows, and the same bits whatever the number of threads or the order of the
    rows. Those between settled pairs are exact to 1e-12 relative; of the others only bounds are known for certain.
    Float64 rows are settled from the start.
    """

    def __init__(self, x: Matrix, *, exact: bool = False) -> None:
        """Computes them in one pass.

        Args:
            x: (n, d) float32 or float64, finite.
            exact: settle all pairs at once.

        Raises:
            NotFinite: rows on a GPU are not, for which kernels look on the way.
        """
        n, d = x.shape
        self._x = x
        self._fused = fused.rows_of(x)
        exact = exact or x.dtype == torch.float64
        self.squared = (
            _fused_pairs(*self._fused, exact=exact)
            if self._fused
            else _square(n, _exact_pairs(x) if exact else _single_pairs(x))
        )
        """The best that is known; +inf where float32 may not hold it."""
        self.low, self.high = self.squared.clone(), self.squared.clone()
        """Between what the exact distances are."""
        self._settled = torch.full((n, n), exact).fill_diagonal_(True)
        self._ascending: Ascending | None = None
        if not exact:
            error = 1.01 * (fused_distances.SINGLE.roundings if self._fused else _roundings(x.device.type)) * _ROUNDING
            underflow = d * _SINGLE_LEAST
            self.low.clamp_(max=_SINGLE_MOST).mul_(1 - error).sub_(underflow).clamp_(min=0).fill_diagonal_(0)
            self.high.mul_(1 + error).add_(underflow).fill_diagonal_(0)

    def ascending(self) -> Ascending:
        """What is known of each row's distances, from the least to the greatest."""
        if self._ascending is None:
            self._ascending = Ascending(*(one.sort(dim=1).values for one in (self.squared, self.low, self.high)))
        return self._ascending

    def settle(self, rows: Tensor, others: Tensor) -> bool:
        """Make the distances between these rows and those others exact.

        Args:
            rows: row numbers.
            others: row numbers too, which may be some of the same.

        Returns:
            Whether any of them had not been settled.
        """
        rows = rows[~self._settled[rows][:, others].all(dim=1)]
        if not len(rows):
            return False
        among = torch.tensor(sorted({*rows.tolist(), *others.tolist()}))
        if self._fused:
            tensor, numbers = self._fused
            some, rest = ([numbers[row] for row in which.tolist()] for which in (rows, others))
            exact = _rounded(fused_distances.squared_distances(tensor, some, rest, exact=True))
        elif _pairs(len(among)) <= _SINGLE_ROW_TIME * len(rows) * len(others):
            rows = others = among
            exact = _square(len(among), _exact_pairs(ChosenRows(self._x, among.tolist())))
        else:
            exact = _exact_to(ChosenRows(self._x, others.tolist()), [self._x[row] for row in rows.tolist()])
        for known in (self.squared, self.low, self.high):
            known[rows[:, None], others] = exact
            known[others[:, None], rows] = exact.T
        self._settled[rows[:, None], others] = self._settled[others[:, None], rows] = True
        self._ascending = None
        return True


def squared_distances_to(x: Matrix, point: Tensor) -> Tensor:
    """Squared Euclidean distances of the rows of x, (n, d), to a point, (d,): (n,) float64 on the CPU.

    Float64 sums of squared differences: the relative error is below 1e-12, and finite float32 rows cannot overflow.
    """
    return _exact_to(x, [point])[0]


def _fused_pairs(x: Tensor, rows: list[int], *, exact: bool) -> Tensor:
    squared = fused_distances.squared_distances(x, rows, rows, exact=exact)
    known = squared.fill_diagonal_(torch.inf).isfinite().any(dim=1)  # then the row is finite
    for row, finite in zip(rows, known.tolist(), strict=True):
        if not finite and not all_finite(x[row]):
            raise fused.NotFinite
    squared = _rounded(squared) if exact else squared.masked_fill_(~(squared < _SINGLE_MOST), torch.inf)
    return squared.fill_diagonal_(0)


def _roundings(device: str) -> float:
    # Terms in each partial sum; a difference and its square; the sum of the lanes; a root taken and squared.
    return _SINGLE_WIDTH[device] / _LANES[device] + 3 + math.log2(_LANES[device]) + 2


def _single_pairs(x: Matrix) -> Tensor:
    n = x.shape[0]
    total = torch.zeros(_pairs(n), dtype=torch.float64, device=x.device)
    columns = blocks(x, _SINGLE_WIDTH[x.device.type])
    at_once = min(32, max(1, _AT_ONCE // max(1, _pairs(n))))
    while roots := [torch.pdist(block) for block in islice(columns, at_once)]:
        total += torch.stack(roots).square_().sum(dim=0, dtype=torch.float64)
    total[~(total < _SINGLE_MOST)] = torch.inf
    return total


def _exact_pairs(x: Matrix) -> Tensor:
    n, d = x.shape
    total = torch.zeros(_pairs(n), dtype=torch.float64, device=x.device)
    for columns in column_blocks(d, max(512, _DOUBLE_BYTES[x.device.type] // (8 * n))):
        total += torch.pdist(x[:, columns].double()).square_()
    return _rounded(total)


def _exact_to(x: Matrix, points: Sequence[Tensor]) -> Tensor:
    n, d = x.shape
    total = torch.zeros(len(points), n, dtype=torch.float64, device=x.device)
    for columns in column_blocks(d, _POINT_WIDTH[x.device.type]):
        block = x[:, columns].to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        difference = block if len(points) == 1 else torch.empty_like(block)
        for point, sums in zip(points, total, strict=True):
            torch.sub(block, point[columns], out=difference)
            sums += torch.linalg.vector_norm(difference, dim=1).square_()
    return _rounded(total).cpu()


def _rounded(total: Tensor) -> Tensor:
    # Rounding brings back whole squares, of which a root was taken on the way: equal costs stay equal, and so a tie.
    scaled = total * _KEEP_40_BITS
    return scaled - (scaled - total)


def _pairs(n: int) -> int:
    return n * (n - 1) // 2


def _square(n: int, pairs: Tensor) -> Tensor:
    distances = torch.zeros(n, n, dtype=torch.float64)
    first, second = torch.triu_indices(n, n, offset=1)
    distances[first, second] = distances[second, first] = pairs.cpu()
    return distances
