"""Rules that look for the direction in which the rows spread most: liars who agree make one.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2. They check nothing: `Rule.aggregate` refuses rows, n and f that do not fit.
"""

import torch
from torch import Tensor

from ostrakon.common.aggregation.distances import Distances
from ostrakon.common.aggregation.matrix import ChosenColumns, Matrix
from ostrakon.common.aggregation.means import Aggregate, means, weighted_mean
from ostrakon.common.aggregation.seeding import generator_of


def covariance_bound_agnostic_filter(x: Matrix, f: int) -> Aggregate:
    """CAF: weights are taken off rows that stand out in the direction of most spread, and the best mean is kept.

    From c_i = 1, while `sum_i c_i > n - 2f`: the weighted mean mu; the largest eigenvalue of the weighted covariance
    `sum_i c_i (x_i - mu)(x_i - mu)^T / sum_i c_i` and its eigenvector v; `tau_i = <v, x_i - mu>^2`;
    `c_i = c_i (1 - tau_i / max tau)`, the maximum over rows with c_i > 0. The result is the mu with the smallest of the
    eigenvalues. All of it is done, exactly, on the n x n centred Gram matrix.
    Source: Allouah et al. 2025, Towards Trustworthy Federated Learning with Untrusted Participants.

    Returns:
        The mean, (d,); no cluster.

    >>> covariance_bound_agnostic_filter(torch.tensor([[0.0], [1.0], [2.0], [60.0]]), 1).vector
    tensor([1.0113])
    """
    n = x.shape[0]
    squared = Distances(x, exact=True).squared
    weights = torch.ones(n, dtype=torch.float64)
    best, least = weights, float("inf")
    while float(weights.sum()) > n - 2 * f:
        eigenvalue, projections = _most_spread(squared, weights / weights.sum())
        if eigenvalue < least:
            best, least = weights, eigenvalue
        largest = float(projections[weights > 0].max())
        if eigenvalue <= 0 or largest <= 0:
            break
        weights = weights * (1 - projections / largest).clamp_(min=0)
    return Aggregate(weighted_mean(x, best), ())


def divide_and_conquer(x: Matrix, f: int, coordinates: int, iterations: int, seed: int) -> Aggregate:
    """DnC: the mean of the rows that stand out least, by their projections on the direction of most spread.

    In each iteration some coordinates are drawn, the rows, centred at their mean there, are projected on their first
    right singular vector, and the f rows with the largest squared projections are put away; ties go to the lowest
    index. What no iteration puts away is averaged. Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine.

    Args:
        x: (n, d) floating-point, finite.
        f: bound on Byzantine rows, iterations * f < n.
        coordinates: how many of the d to draw, all where there are fewer.
        iterations: how often.
        seed: with the rows themselves it decides which coordinates.

    Returns:
        The mean, (d,), and the rows that it is made of.

    >>> rows = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [60.0, 70.0]])
    >>> divide_and_conquer(rows, 1, coordinates=10_000, iterations=1, seed=0)
    Aggregate(vector=tensor([1.0000, 0.6667]), cluster=(0, 1, 2))
    """
    n, d = x.shape
    random = generator_of(x, seed)
    good = set(range(n))
    for _ in range(iterations if f else 0):
        drawn = torch.randperm(d, generator=random)[:coordinates]
        squared = Distances(ChosenColumns(x, drawn), exact=True).squared
        _, projections = _most_spread(squared, torch.full((n,), 1 / n, dtype=torch.float64))
        good &= set(projections.argsort(stable=True)[: n - f].tolist())
    cluster = tuple(sorted(good))
    (vector,) = means(x, [cluster])
    return Aggregate(vector, cluster)


def _most_spread(squared: Tensor, weights: Tensor) -> tuple[float, Tensor]:
    """The largest eigenvalue of a weighted covariance, and each row's squared projection on its eigenvector.

    With mu the weighted mean, `<x_i - mu, x_j - mu>` follows from the distances, and the covariance has the
    eigenvalues of these products scaled by the roots of both weights.

    Args:
        squared: (n, n) squared distances of the rows.
        weights: (n,), their sum 1.
    """
    toward = squared @ weights
    products = (toward[:, None] + toward - squared - weights @ toward) / 2
    root = weights.sqrt()
    values, vectors = torch.linalg.eigh(root[:, None] * products * root)
    eigenvalue = float(values[-1])
    if eigenvalue <= 0:
        return 0.0, torch.zeros_like(weights)
    return eigenvalue, (products @ (root * vectors[:, -1])).square_() / eigenvalue
