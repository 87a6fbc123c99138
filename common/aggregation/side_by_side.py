"""Rules on the rows of R rounds at once: for a GPU, which takes longer to be told of an operation than to do it.

x is (R, n, d) float32 here. Nothing waits for the device: what a rule decides stays there, with whether it is sure. It
is where no rounding can have changed the decision; the others are for `Rule.aggregate`, whose decisions these are.
Rules that decide on no rows are always sure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ostrakon.common.aggregation.clustering import ClusterCost, mean_cost
from ostrakon.common.aggregation.coordinatewise import mean_of_ranks
from ostrakon.common.aggregation.fused import means_of_rounds, usable
from ostrakon.common.aggregation.fused_distances import squared_distances_of_rounds
from ostrakon.common.aggregation.geometric import clipping_factors
from ostrakon.common.aggregation.matrix import column_blocks

_BLOCK_BYTES = 256 << 20
"""What a block of columns may take as float64."""

_AS_CLOSE = 2.0**-38
"""Distances closer than this, relatively, are not told apart: `Distances` knows them to 1e-12."""


class Chosen(NamedTuple):
    """What a rule decides in each of R rounds: the rows that its k aggregates are the means of."""

    sets: Tensor
    """(R, k, n) bool."""

    sure: Tensor
    """(R,) bool."""


Decide = Callable[[Tensor, int], Chosen | Tensor]
"""From x and f: the rows whose means are the aggregates, or the aggregates, (R, k, d), where no rows are decided on."""


def aggregates(decide: Decide, x: Tensor, f: int) -> tuple[Tensor, Tensor]:
    """Apply a rule to R rounds.

    Args:
        decide: `Rule.side_by_side`.
        x: (R, n, d) float32, of each round the rows of the whole roster.
        f: as of `Rule.aggregate`, in every round.

    Returns:
        The k aggregates of each round, (R, k, d), and of each round whether they are those of `Rule.aggregate`, but for
        the rounding of sums, (R,) bool; of rows that are not finite they never are.
    """
    decided, sure = decide(x, f), x.sum(dim=2).isfinite().all(dim=1)
    if isinstance(decided, Tensor):
        return decided, sure
    return means(x, decided.sets), sure & decided.sure


def everybody(x: Tensor, first: int = 0) -> Chosen:
    """All rows from the first-th on."""
    rounds, n, _ = x.shape
    rows = torch.arange(n, device=x.device) >= first
    return Chosen(rows.expand(rounds, 1, n), rows.new_ones(rounds))


def inner(x: Tensor, f: int, cost: ClusterCost) -> Chosen:
    """The n-f rows of the tightest cluster: `clustering.center_with_outliers` and `mean_with_outliers`."""
    if not f:
        return everybody(x)
    inside, sure = tightest_clusters(_measured(x), x.shape[1] - f, cost)
    return Chosen(inside[:, None], sure)


def inner_and_outer(x: Tensor, f: int, cost: ClusterCost) -> Chosen:
    """The n-f rows of the tightest cluster, and all but the f rows of the tightest: `clustering.inner_and_outer`."""
    if not f:
        sets, sure = everybody(x)
        return Chosen(sets.expand(-1, 2, -1), sure)
    measured = _measured(x)
    inside, inner_sure = tightest_clusters(measured, x.shape[1] - f, cost)
    left_out, outer_sure = tightest_clusters(measured, f, cost)
    return Chosen(torch.stack([inside, ~left_out], dim=1), inner_sure & outer_sure)


def krum(x: Tensor, f: int, m: int) -> Chosen:
    """The m rows with the lowest scores: `krum.multi_krum`."""
    n = x.shape[1]
    measured = _measured(x)
    least, best, most = (
        mean_cost(one.sort(dim=2).values[..., : n - f - 1]) for one in (measured.low, measured.squared, measured.high)
    )
    order = best.argsort(dim=1, stable=True)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :m], True)
    # Of rows that equal the last one chosen the first are: a tie that no rounding changes.
    last = order[:, m - 1 : m]
    as_last = measured.first_equal == measured.first_equal.gather(1, last)
    split = (as_last & ~chosen).any(dim=1)
    others = least.masked_fill(chosen | as_last & split[:, None], torch.inf).amin(dim=1)
    before_last = most.masked_fill(~chosen | as_last, -1).amax(dim=1)
    sure = (most.masked_fill(~chosen, -1).amax(dim=1) < others) & (~split | (before_last < least.gather(1, last)[:, 0]))
    return Chosen(chosen[:, None], sure)


def coordinatewise(x: Tensor, trimmed: int) -> Tensor:
    """In every coordinate the mean of what is left without the `trimmed` smallest and largest values, (R, 1, d)."""
    rounds, n, d = x.shape
    # Rounds with rows that are not finite are never sure; they must not concern the others.
    rows = torch.nan_to_num(x.transpose(0, 1), out=x.new_empty(n, rounds, d))
    return mean_of_ranks(rows.view(n, -1), trimmed).view(rounds, 1, d)


def geometric_median(x: Tensor, iterations: int, eps: float) -> Tensor:
    """GM, (R, 1, d): `geometric.geometric_median`."""
    z = _weighted_means(x, x.new_ones(x.shape[:2], dtype=torch.float64))
    for _ in range(iterations):
        distances = _distances_to(x, z).clamp_(min=eps)
        z = _weighted_means(x, distances.amin(dim=1, keepdim=True) / distances)
    return z[:, None]


def centered_clipping(x: Tensor, tau: float, iterations: int) -> Tensor:
    """CClip, (R, 1, d): `geometric.centered_clipping`."""
    n = x.shape[1]
    v = torch.zeros_like(x[:, 0])
    for _ in range(iterations):
        weights = clipping_factors(_distances_to(x, v), tau)
        kept = 1 - weights.sum(dim=1, keepdim=True) / n
        v = (v * kept + _weighted_means(x, weights, total=n)).to(x.dtype)
    return v[:, None]


@dataclass(frozen=True)
class _Measured:
    """Squared distances, (R, n, n) float64, between what the exact ones are, and of each row the first that equals it.

    Rows that are equal are as far from every other row, and 0 from each other, to the last bit.
    """

    squared: Tensor
    low: Tensor
    high: Tensor
    first_equal: Tensor


def _measured(x: Tensor) -> _Measured:
    squared = squared_distances_of_rounds(x) if usable(x[0]) else _squared_distances(x)
    error = _AS_CLOSE * squared
    return _Measured(squared, squared - error, squared + error, (squared == 0).byte().argmax(dim=2))


def _squared_distances(x: Tensor) -> Tensor:
    rounds, n, d = x.shape
    squared = x.new_zeros(rounds, n, n, dtype=torch.float64)
    for columns in column_blocks(d, _width(x)):
        block = x[:, :, columns].double()
        squared += torch.cdist(block, block, compute_mode="donot_use_mm_for_euclid_dist").square_()
    return squared


def tightest_clusters(measured: _Measured, size: int, cost: ClusterCost) -> Chosen:
    """The `size` rows nearest to the row whose cluster costs least, of each round: `clustering.tightest_cluster`.

    Returns:
        Them, (R, n) bool. It is sure that they are where all centres that may cost least have this cluster for certain.
    """
    n = measured.squared.shape[1]
    values, order = measured.squared.sort(dim=2, stable=True)
    members = torch.zeros_like(order, dtype=torch.bool).scatter_(2, order[:, :, :size], True)
    least, most = (cost(one.sort(dim=2).values[..., :size]) for one in (measured.low, measured.high))
    best = cost(values[..., :size]).argmin(dim=1, keepdim=True)
    chosen = members.take_along_dim(best[:, :, None], dim=1)
    certain = _certain(measured, members, order[:, :, size - 1])
    limit = most.gather(1, best)
    rivals = (least < limit) | ((least == limit) & (torch.arange(n, device=best.device) <= best))
    return Chosen(chosen[:, 0], (~rivals | certain & (members == chosen).all(dim=2)).all(dim=1))


def _certain(measured: _Measured, members: Tensor, last: Tensor) -> Tensor:
    """Whether each row's nearest rows, `members`, are these for certain; `last` is the farthest of them. (R, n).

    Of rows that equal the last one the first are members: a tie that no rounding changes.
    """
    first = measured.first_equal
    as_last = first[:, None, :] == first.gather(1, last)[:, :, None]
    others = measured.low.masked_fill(members | as_last, torch.inf).amin(dim=2)
    farthest = measured.high.masked_fill(~members, 0).amax(dim=2)
    before_last = measured.high.masked_fill(~members | as_last, -1).amax(dim=2)
    split = (as_last & ~members).any(dim=2)
    ordered = before_last < measured.low.take_along_dim(last[:, :, None], dim=2)[:, :, 0]
    return (farthest < others) & (~split | ordered)


def means(x: Tensor, sets: Tensor) -> Tensor:
    """The means of k sets of rows in each of R rounds, (R, k, d), summed in float64.

    Args:
        x: (R, n, d) float32, finite.
        sets: (R, k, n) bool, none empty.
    """
    if usable(x[0]):
        return means_of_rounds(x, sets)
    result = x.new_empty(*sets.shape[:2], x.shape[2])
    weights, counts = sets.double(), sets.sum(dim=2, keepdim=True)
    for columns in column_blocks(x.shape[2], _width(x)):
        result[:, :, columns] = (weights @ x[:, :, columns].double()).div_(counts)
    return result


def _weighted_means(x: Tensor, weights: Tensor, total: float | None = None) -> Tensor:
    """`sum_i w_i x_i / total`, (R, d), with weights (R, n) float64; the total is their sum if it is not given."""
    result = torch.empty_like(x[:, 0])
    divisor = weights.sum(dim=1, keepdim=True) if total is None else total
    for columns in column_blocks(x.shape[2], _width(x)):
        result[:, columns] = (weights[:, None] @ x[:, :, columns].double())[:, 0] / divisor
    return result


def _distances_to(x: Tensor, points: Tensor) -> Tensor:
    """How far each row is from its round's point, (R, d): (R, n) float64."""
    squared = x.new_zeros(x.shape[:2], dtype=torch.float64)
    for columns in column_blocks(x.shape[2], _width(x)):
        difference = x[:, :, columns].double() - points[:, None, columns]
        squared += torch.linalg.vector_norm(difference, dim=2).square_()
    return squared.sqrt_()


def _width(x: Tensor) -> int:
    return max(1, _BLOCK_BYTES // (8 * x.shape[0] * x.shape[1]))
