"""The paper's rules: clusters around one of the rows, and the means inside and outside of them.

In every function x is the (n, d) matrix of a round's vectors and f the bound on Byzantine rows among them,
0 <= f < n/2. When only k of n workers' rows arrived, x holds those k and f is f - (n - k). With f = 0 nothing can be
an outlier: Inner and Outer are the plain mean.
"""

from collections.abc import Callable

from torch import Tensor

from common.aggregation.average import Aggregate, means
from common.aggregation.distances import squared_distances

Cost = Callable[[Tensor], Tensor]
"""From (n, m) squared distances of n centres to their m nearest rows, ascending, to (n,) costs (equation 5)."""


def center_cost(nearest: Tensor) -> Tensor:
    """CenterwO: the largest distance. Squared, which orders centres alike."""
    return nearest[:, -1]


def mean_cost(nearest: Tensor) -> Tensor:
    """MeanwO: the sum of squared distances."""
    return nearest.sum(dim=1)


def tightest_cluster(distances: Tensor, size: int, cost: Cost) -> tuple[int, ...]:
    """The `size` rows nearest to the row whose cluster costs least.

    Ties go to the lowest index, between rows and between centres; the chosen centre is therefore in its cluster, being
    the first of its duplicates.

    Args:
        distances: (n, n) float64 squared distances, +inf allowed, on any device.
        size: rows in a cluster, 1 to n.

    Returns:
        Row numbers, ascending.
    """
    nearest, order = distances.cpu().sort(dim=1, stable=True)
    best = int(cost(nearest[:, :size]).argmin())
    return tuple(sorted(order[best, :size].tolist()))


def center_with_outliers(x: Tensor, f: int) -> Aggregate:
    """CenterwO (Algorithm 2): the mean of the n-f rows in the smallest ball around a row."""
    return _inner(x, f, center_cost)


def mean_with_outliers(x: Tensor, f: int) -> Aggregate:
    """MeanwO (Algorithm 2): the mean of the n-f rows with the least sum of squared distances to a row."""
    return _inner(x, f, mean_cost)


def inner_and_outer(x: Tensor, f: int, cost: Cost) -> tuple[Aggregate, Aggregate]:
    """Inner (Algorithm 2) and Outer (Algorithm 4): the means inside the tightest n-f rows, and outside the tightest f.

    With f = 1 every row is a cluster of cost 0, and by the rule for ties Outer leaves out row 0.
    """
    inside, left_out = _clusters(x, (x.shape[0] - f, f), cost)
    outside = [row for row in range(x.shape[0]) if row not in left_out]
    inner, outer = means(x, [inside, outside])
    return Aggregate(inner, inside), Aggregate(outer, left_out)


def _inner(x: Tensor, f: int, cost: Cost) -> Aggregate:
    (inside,) = _clusters(x, (x.shape[0] - f,), cost)
    (vector,) = means(x, [inside])
    return Aggregate(vector, inside)


def _clusters(x: Tensor, sizes: tuple[int, ...], cost: Cost) -> list[tuple[int, ...]]:
    n = x.shape[0]
    if all(size in (0, n) for size in sizes):  # f = 0: nothing to choose, so no distance is needed
        return [tuple(range(size)) for size in sizes]
    distances = squared_distances(x)
    return [tightest_cluster(distances, size, cost) for size in sizes]
