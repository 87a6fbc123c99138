"""Rules that weigh rows by how long they are, or how far from the rest.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2; these rules do not use it. None of them decides on rows, so `Aggregate.cluster` is empty. They check
nothing: `Rule.aggregate` refuses rows, n and f that do not fit.
"""

import torch
from torch import Tensor

from ostrakon.common.aggregation.distances import squared_distances_to
from ostrakon.common.aggregation.matrix import Matrix
from ostrakon.common.aggregation.means import Aggregate, weighted_mean


def geometric_median(x: Matrix, f: int, iterations: int, eps: float) -> Aggregate:
    """GM: steps of the smoothed Weiszfeld algorithm toward the point with the least sum of distances to all rows.

    From the mean z, each step sets `z = sum_i w_i x_i / sum_i w_i` with `w_i = 1 / max(eps, |x_i - z|)`.
    Source: Pillutla et al. 2022, Robust Aggregation for Federated Learning.

    Args:
        x: (n, d) floating-point, finite.
        f: is not used.
        iterations: steps; the paper's tables have 1.
        eps: the least distance that counts, which keeps the weights finite.

    Returns:
        z, (d,); no cluster.

    >>> geometric_median(torch.tensor([[0.0], [1.0], [9.0]]), 1, iterations=50, eps=1e-5).vector
    tensor([1.])
    """
    z = weighted_mean(x, torch.ones(x.shape[0], dtype=torch.float64))
    for _ in range(iterations):
        distances = squared_distances_to(x, z).sqrt_().clamp_(min=eps)
        z = weighted_mean(x, distances.min() / distances)  # as 1 / distances, which might not fit
    return Aggregate(z, ())


def centered_clipping(x: Matrix, f: int, tau: float, iterations: int) -> Aggregate:
    """CClip: steps `v = v + (1/n) sum_i (x_i - v) min(1, tau / |x_i - v|)` from v = 0.

    Source: Karimireddy et al. 2021, Learning from History for Byzantine Robust Optimization.

    Args:
        x: (n, d) floating-point, finite.
        f: is not used.
        tau: how far one row can pull, positive. The paper's 0.215771 is for updates gamma * m_i, so for momenta at
            gamma = 0.1 it is 2.15771.
        iterations: steps; the paper has 1.

    Returns:
        v, (d,); no cluster.

    >>> centered_clipping(torch.tensor([[3.0], [1.0], [800.0]]), 1, tau=2.0, iterations=1).vector
    tensor([1.6667])
    """
    n = x.shape[0]
    v = torch.zeros_like(x[0])
    for _ in range(iterations):
        weights = clipping_factors(squared_distances_to(x, v).sqrt_(), tau)
        v = v.mul_(1 - float(weights.sum()) / n).add_(weighted_mean(x, weights, total=n))
    return Aggregate(v, ())


def clipping_factors(norms: Tensor, threshold: float) -> Tensor:
    """`min(1, threshold / norm)`, and 1 for a norm of 0."""
    return torch.where(norms > threshold, threshold / norms, 1.0)
