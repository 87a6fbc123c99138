"""How far the rows of a matrix are from each other, exactly enough that no row can blur it."""

import torch
from torch import Tensor

from common.aggregation.columns import column_blocks

_KEEP_40_BITS = 2.0**13 + 1  # of 53 (Veltkamp's splitting)


def squared_distances(x: Tensor) -> Tensor:
    """Squared Euclidean distances between all pairs of rows.

    Every pair is the float64 sum of its squared differences, rounded to 40 bits. The Gram form |a|^2 + |b|^2 - 2ab is
    about as fast up to some 50 rows, but loses the digits of near rows far from the reference, which a worker can bring
    about. This form has the same relative error, below 1e-12, and the same running time for every input, and overflows
    for no finite float32. Its bits depend neither on the number of threads nor on the order of the rows.

    Args:
        x: (n, d) floating-point.

    Returns:
        (n, n) float64 on the device of x, symmetric, the diagonal zero, zero between equal rows. Distances that are
        not finite, because a row is not, are +inf.
    """
    n = x.shape[0]
    pairs = torch.zeros(n * (n - 1) // 2, dtype=torch.float64, device=x.device)
    for columns in column_blocks(x, rows=n):
        pairs += torch.pdist(x[:, columns].double()).square_()
    # Rounding brings back whole squares, which pdist took the root of: equal costs stay equal, and so a tie.
    scaled = pairs * _KEEP_40_BITS
    pairs = scaled - (scaled - pairs)
    pairs.nan_to_num_(nan=torch.inf, posinf=torch.inf)
    distances = torch.zeros(n, n, dtype=torch.float64, device=x.device)
    first, second = torch.triu_indices(n, n, offset=1, device=x.device)
    distances[first, second] = pairs
    distances[second, first] = pairs
    return distances
