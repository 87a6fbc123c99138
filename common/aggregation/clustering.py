"""The paper's rules (Yi et al. 2024): clusters around one of the rows, and the means inside and outside of them.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2. When only k of n workers' rows arrived, x holds those k and f is f - (n - k). With f = 0 nothing can be
an outlier: Inner and Outer are the plain mean. They check nothing: `Rule.aggregate` refuses rows, n and f that do not
fit.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.aggregation.distances import Distances
from common.aggregation.matrix import Matrix
from common.aggregation.means import Aggregate, means

_ALIKE = 2.0**-50
"""Rows with squared distances below this share of a cluster's cost, per row, have costs within 1e-7 of each other."""

ClusterCost = Callable[[Tensor], Tensor]
"""From (n, m) squared distances of n centres to their m nearest rows, ascending, to (n,) costs (equation 5)."""


def center_cost(nearest: Tensor) -> Tensor:
    """CenterwO: the largest distance. Squared, which orders centres alike."""
    return nearest[:, -1]


def mean_cost(nearest: Tensor) -> Tensor:
    """MeanwO: the sum of squared distances."""
    return nearest.sum(dim=1)


def center_with_outliers(x: Matrix, f: int) -> Aggregate:
    """CenterwO (Algorithm 2): the mean of `K(x_j)`, `j = argmin_i max_{y in K(x_i)} |x_i - y|`.

    `K(x_i)` is the n-f rows nearest to x_i, itself included. Ties go to the lowest index. Source: section 3.2.

    Returns:
        The mean, (d,), and K(x_j).

    >>> center_with_outliers(torch.tensor([[0.0], [1.0], [2.0], [50.0]]), 1)
    Aggregate(vector=tensor([1.]), cluster=(0, 1, 2))
    """
    return _inner(x, f, center_cost)


def mean_with_outliers(x: Matrix, f: int) -> Aggregate:
    """MeanwO (Algorithm 2): the mean of `K(x_j)`, `j = argmin_i sum_{y in K(x_i)} |x_i - y|^2`.

    `K(x_i)` is the n-f rows nearest to x_i, itself included. Ties go to the lowest index. Source: section 3.2.

    Returns:
        The mean, (d,), and K(x_j).

    >>> mean_with_outliers(torch.tensor([[0.0], [1.0], [2.0], [50.0]]), 1)
    Aggregate(vector=tensor([1.]), cluster=(0, 1, 2))
    """
    return _inner(x, f, mean_cost)


def inner_and_outer(x: Matrix, f: int, cost: ClusterCost) -> tuple[Aggregate, Aggregate]:
    """Inner (Algorithm 2) and Outer (Algorithm 4): the means inside the tightest n-f rows, and outside the tightest f.

    `Outer = mean of X without N(x_j)`, `j = argmin_i cost(x_i, N(x_i))`, N(x_i) the f rows nearest to x_i, itself
    included. With f = 1 every row is a cluster of cost 0, and by the rule for ties Outer leaves out row 0. Source:
    sections 3.2 and 4, and appendix C.

    Args:
        x: (n, d) floating-point, finite.
        f: bound on Byzantine rows.
        cost: `center_cost` for Cent2P, `mean_cost` for Mean2P.

    Returns:
        Inner with its cluster, and Outer with the cluster that it leaves out.

    >>> inner, outer = inner_and_outer(torch.tensor([[0.0], [1.0], [3.0], [9.0], [9.0]]), 2, mean_cost)
    >>> inner.cluster, outer.cluster, outer.vector
    ((0, 1, 2), (3, 4), tensor([1.3333]))
    """
    n = x.shape[0]
    inside: tuple[int, ...] = tuple(range(n))
    left_out: tuple[int, ...] = ()
    if f:
        distances = Distances(x)
        inside = tightest_cluster(distances, n - f, cost)
        left_out = tightest_cluster(distances, f, cost)
    outside = [row for row in range(n) if row not in left_out]
    inner, outer = means(x, [inside, outside])
    return Aggregate(inner, inside), Aggregate(outer, left_out)


def tightest_cluster(distances: Distances, size: int, cost: ClusterCost) -> tuple[int, ...]:
    """The `size` rows nearest to the row whose cluster costs least, ascending.

    Their cost is within 1e-6 of the least there is, relatively. Ties go to the lowest index, between rows and between
    centres; the chosen centre is therefore in its cluster, being the first of its duplicates.
    """
    (cluster,) = nearest(distances, cheapest(distances, size, cost), size)
    return cluster


def cheapest(distances: Distances, size: int, cost: ClusterCost, count: int = 1) -> list[int]:
    """The `count` rows whose clusters of `size` rows cost least, ascending; ties go to the lowest index."""
    while True:
        near = distances.squared.sort(dim=1).values[:, :size]
        costs = cost(near)
        order = costs.argsort(stable=True)
        least = costs[order[count - 1]]
        low, high = distances.interval(least, terms=size)
        clear = bool((costs[order[count:]] > high).all())
        rivals = torch.nonzero((low <= costs) & (costs <= high)).flatten()
        # Liars who all send the same are no close call.
        apart = distances.squared[rivals][:, rivals].max()
        alike = bool((low > 0) & (apart <= least * _ALIKE / size))
        reach = distances.interval(near[rivals, -1])[1]
        members = torch.nonzero((distances.squared[rivals] <= reach[:, None]).any(dim=0)).flatten()
        if clear or alike or not distances.settle(rivals, members):
            return sorted(order[:count].tolist())


def nearest(distances: Distances, rows: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """For each of some rows the `size` rows nearest to it, itself included, ascending; ties go to the lowest index."""
    while True:
        values, order = distances.squared[rows].sort(dim=1, stable=True)
        low, high = distances.interval(values[:, size - 1 : size])
        unclear = (values[:, size:] <= high).any(dim=1)
        rivals = ((low <= distances.squared[rows]) & (distances.squared[rows] <= high))[unclear].any(dim=0)
        asking = torch.tensor(rows)[unclear]
        if not len(asking) or not distances.settle(asking, torch.nonzero(rivals).flatten()):
            return [tuple(sorted(line)) for line in order[:, :size].tolist()]


def _inner(x: Matrix, f: int, cost: ClusterCost) -> Aggregate:
    n = x.shape[0]
    inside = tightest_cluster(Distances(x), n - f, cost) if f else tuple(range(n))
    (vector,) = means(x, [inside])
    return Aggregate(vector, inside)
