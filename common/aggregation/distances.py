"""How far rows are from each other, exactly enough that no row can blur it.

The Gram form |a|^2 + |b|^2 - 2ab loses the digits of near rows that lie far from its reference, which a worker can
bring about. Here every distance is a sum of squared differences, whose relative error is the same for every input: in
float32 first, which is as fast as a Gram product, and in float64 again for the few pairs on which a decision hangs.
"""

import math

import torch
from torch import Tensor

from common.aggregation.matrix import Matrix, column_blocks

_SINGLE_WIDTH = {"cpu": 768, "cuda": 1 << 14}
"""Columns summed in float32 before the sum moves to float64: few, so that rounding stays small."""

_LANES = {"cpu": {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 4), "cuda": 256}
"""How many partial sums `torch.pdist` makes of a block: lanes of the processor's vectors, threads on a GPU."""

_ROUNDING = 2.0**-24

_SINGLE_LIMITS = (2.0**-126, 2.0**126)
"""Squares below and above are rounded to nothing or overflow in float32."""

_DOUBLE_BYTES = {"cpu": 1 << 21, "cuda": 1 << 26}
"""What a block of float64 rows may take: about the second-level cache of one core."""

_PRODUCT_TIME = 4
"""What torch.cdist takes for a distance, in times of torch.pdist."""

_KEEP_40_BITS = 2.0**13 + 1  # of 53 (Veltkamp's splitting)


class Distances:
    """Squared Euclidean distances between all pairs of rows.

    They are symmetric, zero between equal rows, and the same bits whatever the number of threads or the order of the
    rows. Those between settled pairs are exact to 1e-12 relative, the others within what `interval` says. Float64 rows
    are settled from the start.
    """

    def __init__(self, x: Matrix, *, exact: bool = False) -> None:
        """Computes them in one pass.

        Args:
            x: (n, d) float32 or float64, finite.
            exact: settle all pairs at once.
        """
        n, self._d = x.shape
        self._x = x
        kind = x.device.type
        # One term after another into each partial sum; a difference and its square; the sum of the lanes; the root.
        self._error = (_SINGLE_WIDTH[kind] / _LANES[kind] + 3 + math.log2(_LANES[kind]) + 2) * _ROUNDING
        self.settled = torch.full((n, n), exact or x.dtype == torch.float64).fill_diagonal_(True)
        """(n, n) bool, on the CPU."""
        pairs = _exact_pairs(x) if exact or x.dtype == torch.float64 else _single_pairs(x)
        self.squared = _square(n, pairs)
        """(n, n) float64, on the CPU; +inf where the type cannot hold it."""

    def interval(self, value: Tensor | float, terms: int = 1) -> tuple[Tensor, Tensor]:
        """What other values may, exactly, be equal to these: the lower and the upper ends, each the shape of value.

        Args:
            value: sums of at most `terms` distances.
        """
        value = torch.as_tensor(value, dtype=torch.float64)
        if bool(self.settled.all()):
            return value, value
        underflow = terms * self._d * _SINGLE_LIMITS[0]
        return value * (1 - 2.1 * self._error) - underflow, value * (1 + 2.1 * self._error) + underflow

    def settle(self, rows: Tensor, others: Tensor) -> bool:
        """Make the distances between these rows and those others exact.

        Args:
            rows: row numbers.
            others: row numbers too, which may be some of the same.

        Returns:
            Whether any of them had not been settled.
        """
        if bool(self.settled[rows[:, None], others].all()):
            return False
        among = torch.tensor(sorted({*rows.tolist(), *others.tolist()}))
        if _pairs(len(among)) <= _PRODUCT_TIME * len(rows) * len(others):
            rows = others = among
            exact = _square(len(among), _exact_pairs(self._x, among))
        else:
            exact = _exact_products(self._x, rows, others)
        self.squared[rows[:, None], others] = exact
        self.squared[others[:, None], rows] = exact.T
        self.settled[rows[:, None], others] = self.settled[others[:, None], rows] = True
        return True


def squared_distances_to(x: Matrix, point: Tensor) -> Tensor:
    """Squared Euclidean distances of the rows of x, (n, d), to a point, (d,): (n,) float64 on the CPU.

    Float64 sums of squared differences: the relative error is below 1e-12, and finite float32 rows cannot overflow.
    """
    n, d = x.shape
    total = torch.zeros(n, dtype=torch.float64, device=x.device)
    for columns in column_blocks(d, _double_width(n, x.device)):
        difference = x[:, columns].to(torch.float64, copy=True).sub_(point[columns])
        total += torch.linalg.vector_norm(difference, dim=1).square_()
    return total.cpu()


def _single_pairs(x: Matrix) -> Tensor:
    total = torch.zeros(_pairs(x.shape[0]), dtype=torch.float64, device=x.device)
    for columns in column_blocks(x.shape[1], _SINGLE_WIDTH[x.device.type]):
        total += torch.pdist(x[:, columns]).square_()
    total[~(total < _SINGLE_LIMITS[1])] = torch.inf
    return total


def _exact_pairs(x: Matrix, rows: Tensor | None = None) -> Tensor:
    n = x.shape[0] if rows is None else len(rows)
    total = torch.zeros(_pairs(n), dtype=torch.float64, device=x.device)
    for columns in column_blocks(x.shape[1], _double_width(n, x.device)):
        total += torch.pdist(_double(x, columns, rows)).square_()
    return _rounded(total)


def _exact_products(x: Matrix, rows: Tensor, others: Tensor) -> Tensor:
    total = torch.zeros(len(rows), len(others), dtype=torch.float64, device=x.device)
    for columns in column_blocks(x.shape[1], _double_width(len(rows) + len(others), x.device)):
        one, other = _double(x, columns, rows), _double(x, columns, others)
        total += torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square_()
    return _rounded(total).cpu()


def _double(x: Matrix, columns: slice, rows: Tensor | None) -> Tensor:
    block = x[:, columns]
    return (block if rows is None else block.index_select(0, rows.to(x.device))).double()


def _rounded(total: Tensor) -> Tensor:
    # Rounding brings back whole squares, of which a root was taken on the way: equal costs stay equal, and so a tie.
    scaled = total * _KEEP_40_BITS
    total = scaled - (scaled - total)
    return total.nan_to_num_(nan=torch.inf, posinf=torch.inf)


def _double_width(rows: int, device: torch.device) -> int:
    return max(512, _DOUBLE_BYTES[device.type] // (8 * rows))


def _pairs(n: int) -> int:
    return n * (n - 1) // 2


def _square(n: int, pairs: Tensor) -> Tensor:
    distances = torch.zeros(n, n, dtype=torch.float64)
    first, second = torch.triu_indices(n, n, offset=1)
    distances[first, second] = distances[second, first] = pairs.cpu()
    return distances
