"""Pre-aggregations: a round's rows are made into other rows, and a rule is applied to these.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2. Each takes memory for the rows that it returns. They check nothing: `Rule.aggregate` refuses rows, n and f
that do not fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ostrakon.common.aggregation import fused
from ostrakon.common.aggregation.clustering import mean_cost, nearest
from ostrakon.common.aggregation.distances import Distances, squared_distances_to
from ostrakon.common.aggregation.geometric import clipping_factors
from ostrakon.common.aggregation.matrix import Matrix, all_finite, column_blocks, empty_like
from ostrakon.common.aggregation.means import means
from ostrakon.common.aggregation.seeding import generator_of

_BLOCK_NUMBERS = {"cpu": 1 << 17, "cuda": 1 << 23}
"""Numbers in a block of columns: as many as cache holds with what is made of them, or as keep a GPU busy."""


@dataclass(frozen=True)
class Mixed:
    """What a pre-aggregation makes of a round's rows."""

    x: Tensor
    """(m, d), with the dtype and device of the rows."""

    members: tuple[tuple[int, ...], ...]
    """For each of the m rows those of the round that it stands for."""


def nearest_neighbor_mixing(x: Matrix, f: int) -> Mixed:
    """NNM: `y_i = 1/(n-f) sum_{j in N(i)} x_j`, N(i) the n-f rows nearest to x_i, itself included.

    Ties go to the lowest index. Source: Allouah et al. 2023, Fixing by Mixing.

    Returns:
        The n rows y_i.

    >>> nearest_neighbor_mixing(torch.tensor([[0.0], [1.0], [2.0], [50.0]]), 1).x.flatten()
    tensor([ 1.0000,  1.0000,  1.0000, 17.6667])
    """
    n = x.shape[0]
    distances = Distances(x)
    neighbors = nearest(distances, range(n), n - f)
    middle = int(mean_cost(distances.squared.sort(dim=1).values[:, : n - f]).argmin())
    members = tuple((row,) for row in range(n))
    mixed = empty_like(x, *x.shape)
    if readable := fused.rows_of(x):
        tensor, numbers = readable
        if not fused.mixed(tensor, [[numbers[row] for row in one] for one in neighbors], numbers[middle], mixed):
            means(x, neighbors, out=mixed)
        return Mixed(mixed, members)
    near = torch.tensor(neighbors, device=x.device)
    shares = torch.full_like(near, 1 / (n - f), dtype=x.dtype)
    for columns in _blocks(x):
        # Sums of rows in their order, the same bits on any number of threads, which a matrix product does not promise;
        # of what they differ by from a row in the middle, so that float32 has the digits for it.
        origin = x[middle, columns]
        block = embedding_bag(near, (x[:, columns] - origin).contiguous(), mode="sum", per_sample_weights=shares)
        torch.add(block, origin, out=mixed[:, columns])
        if not all_finite(mixed[:, columns]):  # numbers as large as there are
            means(x[:, columns], near.tolist(), out=mixed[:, columns])
    return Mixed(mixed, members)


def bucketing(x: Matrix, f: int, s: int, seed: int) -> Mixed:
    """Bucketing: `y_b = 1/s sum_{j in bucket b} x_j`, the rows shuffled and put into buckets of s.

    The last bucket is smaller if need be. One Byzantine row spoils one bucket, so at most f of the ceil(n/s) are.
    Source: Karimireddy et al. 2022, Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing.

    Args:
        x: (n, d) floating-point, finite.
        f: is not used.
        s: rows in a bucket, from 1.
        seed: with the rows themselves it decides which (`common.aggregation.seeding`).

    Returns:
        The ceil(n/s) means, and who is in them.

    >>> mixed = bucketing(torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]]), 1, s=2, seed=0)
    >>> sorted(len(members) for members in mixed.members)
    [1, 2, 2]
    """
    n, d = x.shape
    order = torch.randperm(n, generator=generator_of(x, seed)).tolist()
    buckets = tuple(tuple(sorted(order[start : start + s])) for start in range(0, n, s))
    mixed = empty_like(x, len(buckets), d)
    means(x, buckets, out=mixed)
    return Mixed(mixed, buckets)


def clipping(x: Matrix, f: int, tau: float) -> Mixed:
    """Clipping: `y_i = x_i min(1, tau / |x_i|)`. Source: common practice; byzfl calls it static clipping.

    Args:
        x: (n, d) floating-point, finite.
        f: is not used.
        tau: the length that no row exceeds then, positive.

    Returns:
        The n rows y_i.

    >>> clipping(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), 0, tau=2.5).x
    tensor([[1.5000, 2.0000],
            [0.0000, 1.0000]])
    """
    return _clipped(x, squared_distances_to(x, torch.zeros_like(x[0])).sqrt_(), tau)


def adaptive_robust_clipping(x: Matrix, f: int) -> Mixed:
    """ARC: `y_i = x_i min(1, tau / |x_i|)`, tau the length of the longest row but `floor(2 f (n-f) / n)`.

    Source: Allouah et al. 2025, Adaptive Gradient Clipping for Robust Federated Learning.

    Returns:
        The n rows y_i.

    >>> adaptive_robust_clipping(torch.tensor([[1.0], [2.0], [-80.0]]), 1).x.flatten()
    tensor([ 1.,  2., -2.])
    """
    n = x.shape[0]
    norms = squared_distances_to(x, torch.zeros_like(x[0])).sqrt_()
    clipped = 2 * f * (n - f) // n
    return _clipped(x, norms, float(norms.sort(descending=True).values[clipped]))


def _blocks(x: Matrix) -> Iterator[slice]:
    n, d = x.shape
    return column_blocks(d, max(64, _BLOCK_NUMBERS[x.device.type] // n))


def _clipped(x: Matrix, norms: Tensor, threshold: float) -> Mixed:
    factors = clipping_factors(norms, threshold)[:, None].to(x.device)
    clipped = empty_like(x, *x.shape)
    for columns in _blocks(x):
        clipped[:, columns] = x[:, columns] * factors  # in float64: the factor of a huge row is tiny
    return Mixed(clipped, tuple((row,) for row in range(x.shape[0])))
