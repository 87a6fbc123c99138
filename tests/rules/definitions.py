"""The rules as their papers define them: float64, one step after another, written apart from the library."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tests.rules.rows import Rows

Vector = NDArray[np.float64]


def distances(x: Rows) -> Vector:
    wide = x.astype(np.float64)
    return np.array([[((p - q) ** 2).sum() for q in wide] for p in wide])


def nearest(squared: Vector, row: int, size: int) -> list[int]:
    return sorted(range(len(squared)), key=lambda other: (squared[row, other], other))[:size]


def cost(criterion: str, squared: Vector, center: int, size: int) -> float:
    """Of the best cluster around a row: CenterwO's (squared) or MeanwO's."""
    values = np.sort(squared[center])[:size]
    return float(values.max() if criterion == "Cent" else values.sum())


def krum_scores(x: Rows, f: int, rows: list[int] | None = None) -> Vector:
    chosen = distances(x if rows is None else x[rows])
    near = max(1, len(chosen) - f - 2)
    return np.array([np.sort(np.delete(line, row))[:near].sum() for row, line in enumerate(chosen)])


def median(x: Rows) -> Vector:
    ordered = np.sort(x.astype(np.float64), axis=0)
    n = len(x)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def trimmed_mean(x: Rows, f: int) -> Vector:
    return np.sort(x.astype(np.float64), axis=0)[f : len(x) - f].mean(axis=0)


def around_median(x: Rows, size: int) -> Vector:
    center = median(x)
    result = np.empty_like(center)
    for k, column in enumerate(x.astype(np.float64).T):
        ordered = sorted(column, key=lambda value: (abs(value - center[k]), value))
        result[k] = np.mean(ordered[:size])
    return result


def geometric_median(x: Rows, iterations: int, eps: float) -> Vector:
    wide = x.astype(np.float64)
    z = wide.mean(axis=0)
    for _ in range(iterations):
        weights = np.array([1 / max(eps, np.linalg.norm(row - z)) for row in wide])
        z = sum(weight / weights.sum() * row for weight, row in zip(weights, wide, strict=True))
    return np.asarray(z)


def centered_clipping(x: Rows, tau: float, iterations: int) -> Vector:
    wide = x.astype(np.float64)
    v = np.zeros(x.shape[1])
    for _ in range(iterations):
        norms = [np.linalg.norm(row - v) for row in wide]
        v = v + sum(
            (row - v) * (min(1, tau / norm) if norm else 1) for row, norm in zip(wide, norms, strict=True)
        ) / len(x)
    return v


def bulyan_rows(x: Rows, f: int) -> list[int]:
    left = list(range(len(x)))
    chosen: list[int] = []
    while len(chosen) < len(x) - 2 * f:
        chosen.append(left.pop(int(np.argmin(krum_scores(x, f, left)))))
    return sorted(chosen)


def diameter(x: Rows, subset: tuple[int, ...]) -> float:
    return float(distances(x[list(subset)]).max())


def minimum_diameter_subset(x: Rows, f: int) -> tuple[int, ...]:
    squared = distances(x)
    subsets = combinations(range(len(x)), len(x) - f)
    return min(subsets, key=lambda subset: squared[np.ix_(subset, subset)].max())


def largest_eigenvalue(x: Rows, subset: tuple[int, ...]) -> float:
    rows = x[list(subset)].astype(np.float64)
    centred = rows - rows.mean(axis=0)
    return float(np.linalg.svd(centred, compute_uv=False)[0] ** 2 / len(rows))


def covariance_bound_agnostic_filter(x: Rows, f: int) -> Vector:
    wide, n = x.astype(np.float64), len(x)
    c = np.ones(n)
    best, least = wide.mean(axis=0), np.inf
    while c.sum() > n - 2 * f:
        mean = (c[:, None] * wide).sum(axis=0) / c.sum()
        centred = wide - mean
        values, vectors = np.linalg.eigh((c[:, None] * centred).T @ centred / c.sum())
        if values[-1] < least:
            best, least = mean, values[-1]
        tau = (centred @ vectors[:, -1]) ** 2
        if tau[c > 0].max() == 0:
            break
        c = c * np.maximum(0, 1 - tau / tau[c > 0].max())
    return best


def stands_out_least(x: Rows, f: int) -> list[int]:
    """DnC, one iteration over all coordinates."""
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    projections = (centred @ np.linalg.svd(centred, full_matrices=False)[2][0]) ** 2
    return sorted(np.argsort(projections, kind="stable")[: len(x) - f].tolist())


def nearest_neighbor_mixing(x: Rows, f: int) -> Vector:
    squared = distances(x)
    return np.array([x[nearest(squared, row, len(x) - f)].astype(np.float64).mean(axis=0) for row in range(len(x))])


def clipped(x: Rows, tau: float) -> Vector:
    wide = x.astype(np.float64)
    return np.array([row * (min(1, tau / np.linalg.norm(row)) if row.any() else 1) for row in wide])


def adaptively_clipped(x: Rows, f: int) -> Vector:
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    n = len(x)
    return clipped(x, float(np.sort(norms)[n - 1 - 2 * f * (n - f) // n]))
