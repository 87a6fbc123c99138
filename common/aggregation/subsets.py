"""Rules that look for the best n-f of the n rows among all such subsets, exactly.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them,
0 <= f < n/2. Of equally good subsets the first in lexicographic order is taken. They check nothing: `Rule.aggregate`
refuses rows, n and f that do not fit.
"""

from itertools import combinations, islice

import torch
from torch import Tensor

from ostrakon.common.aggregation.distances import Distances
from ostrakon.common.aggregation.matrix import Matrix
from ostrakon.common.aggregation.means import Aggregate, means
from ostrakon.common.aggregation.vertex_cover import has_vertex_cover

_BATCH_BYTES = 1 << 20

_SAME = 1e-9
"""Eigenvalues so near to each other, relatively, are equal."""


def minimum_diameter_averaging(x: Matrix, f: int) -> Aggregate:
    """MDA: the mean of the subset S of n-f rows with the least diameter `max_{i,j in S} |x_i - x_j|`.

    n-f rows fit within a diameter when f rows can be found that take part in all larger distances: a vertex cover of
    size f in the graph of these distances. So a bisection over the distances finds the diameter, without looking at the
    n over f subsets. Source: El Mhamdi et al. 2018; Farhadkhani et al. 2022.

    Returns:
        The mean, (d,), and S.

    >>> minimum_diameter_averaging(torch.tensor([[0.0], [70.0], [1.0], [2.0], [80.0]]), 2)
    Aggregate(vector=tensor([1.]), cluster=(0, 2, 3))
    """
    subset = minimum_diameter_subset(Distances(x), f)
    (vector,) = means(x, [subset])
    return Aggregate(vector, subset)


def minimum_diameter_subset(distances: Distances, f: int) -> tuple[int, ...]:
    """The subset of MDA, ascending."""
    n = len(distances.squared)
    while True:
        low, high = (_least_diameter(bound, f) for bound in (distances.low, distances.high))
        close = (distances.low <= high) & (distances.high >= low)
        rivals = torch.nonzero(close.fill_diagonal_(False).any(dim=0)).flatten()
        if len(rivals) <= 2 or not distances.settle(rivals, rivals):
            break
    diameter = _least_diameter(distances.squared, f)
    too_far = _edges(distances.squared, diameter)
    subset: list[int] = []
    excluded = 0
    for row in range(n):  # take each row that can be taken: the rows too far from it are then left out
        without = excluded | too_far[row]
        spare = f - without.bit_count()
        if not excluded >> row & 1 and spare >= 0 and has_vertex_cover(_without(too_far, without), spare):
            subset.append(row)
            excluded = without
        elif not excluded >> row & 1:
            excluded |= 1 << row
    return tuple(subset[: n - f])


def smallest_maximum_eigenvalue_averaging(x: Matrix, f: int) -> Aggregate:
    """SMEA: the mean of the subset S of n-f rows whose covariance has the smallest largest eigenvalue.

    `M_S = (1/|S|) sum_{i in S} (x_i - mean_S)(x_i - mean_S)^T`; its eigenvalues are those of the centred Gram matrix
    of S, which follows from the distances. All n over f subsets are looked at.
    Source: Allouah et al. 2023, On the Privacy-Robustness-Utility Trilemma in Distributed Learning.

    Returns:
        The mean, (d,), and S.

    >>> smallest_maximum_eigenvalue_averaging(torch.tensor([[0.0], [70.0], [1.0], [2.0], [80.0]]), 2)
    Aggregate(vector=tensor([1.]), cluster=(0, 2, 3))
    """
    n = x.shape[0]
    squared = Distances(x, exact=True).squared
    subsets = combinations(range(n), n - f)
    best, least = tuple(range(n - f)), float("inf")
    size = max(1, _BATCH_BYTES // (8 * (n - f) ** 2))
    while batch := list(islice(subsets, size)):
        rows = torch.tensor(batch)
        eigenvalues = largest_eigenvalues(squared[rows[:, :, None], rows[:, None, :]])
        smallest = float(eigenvalues.min())
        if smallest < least * (1 - _SAME):
            best = batch[int(torch.nonzero(eigenvalues <= smallest * (1 + _SAME))[0])]
            least = smallest
    (vector,) = means(x, [best])
    return Aggregate(vector, best)


def largest_eigenvalues(squared: Tensor) -> Tensor:
    """Largest eigenvalue of the covariance of each of B sets of k rows: (B,), from their (B, k, k) distances."""
    k = squared.shape[1]
    centring = torch.eye(k, dtype=squared.dtype) - 1 / k
    eigenvalues: Tensor = torch.linalg.eigvalsh(centring @ squared @ centring / (-2 * k))
    return eigenvalues[:, -1]


def _least_diameter(squared: Tensor, f: int) -> float:
    """The least value d such that n-f rows have no distance above d among them."""
    values = sorted(set(squared.flatten().tolist()))  # the first is 0
    below, found = -1, len(values) - 1
    while found - below > 1:
        middle = (below + found) // 2
        if has_vertex_cover(_edges(squared, values[middle]), f):
            found = middle
        else:
            below = middle
    return float(values[found])


def _edges(squared: Tensor, diameter: float) -> list[int]:
    """For each row the set, as bits, of those farther from it than the diameter."""
    return [sum(1 << other for other, far in enumerate(row) if far) for row in (squared > diameter).tolist()]


def _without(edges: list[int], excluded: int) -> list[int]:
    return [0 if excluded >> row & 1 else others & ~excluded for row, others in enumerate(edges)]
