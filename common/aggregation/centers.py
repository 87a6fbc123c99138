"""Clusters around one centre that is cheap to find, where CenterwO and MeanwO try every row.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2. Each result is the mean of the n-f rows nearest to the centre; ties go to the lowest index. They check
nothing: `Rule.aggregate` refuses rows, n and f that do not fit.
"""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor

from ostrakon.common.aggregation.clustering import center_cost, cheapest
from ostrakon.common.aggregation.coordinatewise import coordinatewise_median
from ostrakon.common.aggregation.distances import Distances, squared_distances_to
from ostrakon.common.aggregation.matrix import Matrix
from ostrakon.common.aggregation.means import Aggregate, add_row, means


def around_median(x: Matrix, f: int) -> Aggregate:
    """Median1P: the mean of the n-f rows nearest to the coordinate-wise median, in O(nd).

    Let c be any point and r the radius of the ball around it that holds some n-f rows S. In every coordinate at least
    half of all rows, and so at least n/2 - f rows of S, are on the far side of the median m as seen from c. Summed over
    the coordinates, `(n/2 - f) |m - c|^2 <= sum_S |x_i - c|^2`. Hence the ball around m that holds n-f rows is at most
    `1 + sqrt(2(n-f)/(n-2f))` times larger than the smallest ball that does, and the sum of squared distances from m to
    its n-f nearest rows at most `1 + 2(n-f)/(n-2f)` times the least from any point.
    Source: Narayanan 2018, the O(nd) algorithm for L^p and a majority of inliers.

    Returns:
        The mean, (d,), and the n-f rows.

    >>> around_median(torch.tensor([[0.0], [1.0], [2.0], [3.0], [50.0]]), 1)
    Aggregate(vector=tensor([1.5000]), cluster=(0, 1, 2, 3))
    """
    return around_point(x, f, coordinatewise_median(x).vector)


def streaming_mean(rows: Iterable[Tensor], f: int) -> Aggregate:
    """Stream1P: the mean of the n-f rows nearest to a centre, in one pass over the rows and with O(fd) memory.

    Of the first 2f+1 rows the centre is the one with the smallest ball that holds f+1 of them. Let r be the radius of
    the smallest ball that holds n-f of all rows: f+1 of the first are in it, so the ball around the centre is no larger
    than 2r. It holds one of the n-f rows, of which all others are within 2r, so within 4r of the centre. Then only the
    f rows farthest from the centre so far are kept, and the sum of the others.
    Source: McCutchen and Khuller 2008, for one centre.

    Args:
        rows: n vectors (d,), floating-point, finite, n > 2f; a matrix, or anything that yields them.
        f: bound on the outliers.

    Returns:
        The mean, (d,), and the rows that it is made of.

    >>> streaming_mean(iter(torch.tensor([[0.0], [1.0], [50.0], [2.0], [3.0]])), 1)
    Aggregate(vector=tensor([1.5000]), cluster=(0, 1, 3, 4))
    """
    stream = iter(rows)
    first = torch.stack(list(islice(stream, 2 * f + 1)))
    (chosen,) = cheapest(Distances(first), f + 1, center_cost)
    center = first[chosen]
    total = torch.zeros_like(center, dtype=torch.float64)
    cluster: list[int] = []
    farthest: list[tuple[float, int, Tensor]] = []  # at most f rows, the nearest of them first

    def take(number: int, row: Tensor, distance: float) -> None:
        farthest.append((distance, number, row))
        farthest.sort(key=lambda entry: entry[:2])
        if len(farthest) > f:
            _, near, vector = farthest.pop(0)
            cluster.append(near)
            add_row(total, vector)

    for number, distance in enumerate(squared_distances_to(first, center).tolist()):
        take(number, first[number], distance)
    for number, row in enumerate(stream, start=len(first)):
        take(number, row, float(squared_distances_to(row[None], center)))
    return Aggregate(total.div_(len(cluster)).to(center.dtype), tuple(sorted(cluster)))


def around_row(x: Matrix, f: int, pivot: int) -> Aggregate:
    """MoNNA: the mean of the n-f rows nearest to a row that is trusted, in O(nd).

    Source: Farhadkhani et al. 2023, Robust Collaborative Learning with Linear Gradient Overhead; there every worker
    aggregates for itself, around its own vector.

    Args:
        x: (n, d) floating-point, finite.
        f: bound on the outliers.
        pivot: number of the trusted row; nothing is promised when it lies.

    Returns:
        The mean, (d,), and the n-f rows.

    >>> around_row(torch.tensor([[0.0], [1.0], [2.0], [3.0], [50.0]]), 2, pivot=1)
    Aggregate(vector=tensor([1.]), cluster=(0, 1, 2))
    """
    return around_point(x, f, x[pivot])


def around_point(x: Matrix, f: int, center: Tensor) -> Aggregate:
    """The mean of the n-f rows nearest to a point, (d,), and these rows."""
    order = squared_distances_to(x, center).argsort(stable=True)
    cluster = tuple(sorted(order[: x.shape[0] - f].tolist()))
    (vector,) = means(x, [cluster])
    return Aggregate(vector, cluster)
