"""The paper's rules (Yi et al. 2024): clusters around one of the rows, and the means inside and outside of them.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2. When only k of n workers' rows arrived, x holds those k and f is f - (n - k). With f = 0 nothing can be
an outlier: Inner and Outer are the plain mean. They check nothing: `Rule.aggregate` refuses rows, n and f that do not
fit.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ostrakon.common.aggregation.distances import Distances
from ostrakon.common.aggregation.matrix import Matrix
from ostrakon.common.aggregation.means import Aggregate, means

_ALIKE = 2.0**-50
"""Rows whose squared distance is below this share of a cluster's cost, by its rows, have costs within 1e-7."""

ClusterCost = Callable[[Tensor], Tensor]
"""From (..., m) squared distances of centres to their m nearest rows, ascending, to (...,) costs (equation 5)."""


def center_cost(nearest: Tensor) -> Tensor:
    """CenterwO: the largest distance. Squared, which orders centres alike."""
    return nearest[..., -1]


def mean_cost(nearest: Tensor) -> Tensor:
    """MeanwO: the sum of squared distances."""
    return nearest.sum(dim=-1)


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
    """The `count` rows whose clusters of `size` rows cost least, ascending; ties go to the lowest index.

    Args:
        distances: of which what is needed for this will be settled.
        size: rows in a cluster, the one in its centre included.
        cost: what a cluster costs.
        count: 1 to n.
    """
    while True:
        ascending = distances.ascending()
        order = cost(ascending.squared[:, :size]).argsort(stable=True)
        chosen, others = order[:count], order[count:]
        low, high = (cost(bound[:, :size]) for bound in (ascending.low, ascending.high))
        most = high[chosen].max()
        rivals = others[low[others] <= most]
        if not len(rivals):
            break
        rivals = torch.cat([chosen[high[chosen] >= low[rivals].min()], rivals])
        # Liars who all send the same are no close call.
        if distances.high[rivals][:, rivals].max() <= low[rivals].min() * _ALIKE / size:
            break
        counts = distances.low[rivals] <= ascending.high[rivals, size - 1, None]
        if cost is center_cost:  # only what may be the largest distance of a cluster
            counts &= distances.high[rivals] >= ascending.low[rivals, size - 1, None]
        if not distances.settle(rivals, torch.nonzero(counts.any(dim=0)).flatten()):
            break
    return sorted(chosen.tolist())


def nearest(distances: Distances, rows: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """For each of some rows the `size` rows nearest to it, itself included, ascending; ties go to the lowest index."""
    asking = torch.tensor(rows)
    while True:
        ascending = distances.ascending()
        last_low, last_high = (bound[asking, size - 1, None] for bound in (ascending.low, ascending.high))
        possible = distances.low[asking] <= last_high
        unclear = possible.sum(dim=1) > size
        rivals = (possible & (distances.high[asking] >= last_low))[unclear].any(dim=0)
        if not distances.settle(asking[unclear], torch.nonzero(rivals).flatten()):
            order = distances.squared[asking].argsort(dim=1, stable=True)
            return [tuple(sorted(line)) for line in order[:, :size].tolist()]


def _inner(x: Matrix, f: int, cost: ClusterCost) -> Aggregate:
    n = x.shape[0]
    inside = tightest_cluster(Distances(x), n - f, cost) if f else tuple(range(n))
    (vector,) = means(x, [inside])
    return Aggregate(vector, inside)
