"""Krum and the rules made of it: rows are scored by how near their neighbours are.

In every function x is the (n, d) matrix of a round's vectors, finite, and f the bound on Byzantine rows among them. The
score of a row is `s(i) = sum_{j in N(i)} |x_i - x_j|^2`, N(i) the n-f-2 other rows nearest to it. They check
nothing: `Rule.aggregate` refuses rows, n and f that do not fit.
"""

from ostrakon.common.aggregation.clustering import cheapest, mean_cost
from ostrakon.common.aggregation.coordinatewise import nearest_to_median
from ostrakon.common.aggregation.distances import Distances
from ostrakon.common.aggregation.matrix import Matrix
from ostrakon.common.aggregation.means import Aggregate, means


def krum(x: Matrix, f: int) -> Aggregate:
    """Krum: `x_k`, `k = argmin_i s(i)`; ties go to the lowest index. n >= 2f + 3.

    Source: Blanchard et al. 2017, Machine Learning with Adversaries.

    Returns:
        A copy of the row, (d,), and its number.

    >>> krum(torch.tensor([[0.0], [1.0], [3.0], [4.0], [90.0]]), 1)
    Aggregate(vector=tensor([1.]), cluster=(1,))
    """
    return multi_krum(x, f, 1)


def multi_krum(x: Matrix, f: int, m: int) -> Aggregate:
    """Multi-Krum: the mean of the m rows with the lowest scores `s(i)`; ties go to the lowest index. n >= 2f + 3.

    Source: Blanchard et al. 2017, Machine Learning with Adversaries, section 4.

    Args:
        x: (n, d) floating-point, finite.
        f: bound on Byzantine rows.
        m: 1 to n-f.

    Returns:
        The mean, (d,), and the m rows.

    >>> multi_krum(torch.tensor([[0.0], [1.0], [3.0], [4.0], [90.0]]), 1, 4)
    Aggregate(vector=tensor([2.]), cluster=(0, 1, 2, 3))
    """
    chosen = cheapest(Distances(x), x.shape[0] - f - 1, mean_cost, m)  # n-f-2 others and the row itself
    (vector,) = means(x, [chosen])
    return Aggregate(vector, tuple(chosen))


def bulyan(x: Matrix, f: int) -> Aggregate:
    """Bulyan: Krum chooses n-2f rows, one after the other, each from what is left of X; of these, in every coordinate,
    the mean of the n-4f values nearest to their median. n >= 4f + 3.

    A score sums over the r-f-2 nearest of the r rows that are left, over 1 at least. A tie around the median goes to
    the smaller values. Source: El Mhamdi et al. 2018, The Hidden Vulnerability of Distributed Learning in Byzantium.

    Returns:
        The mean, (d,), and the n-2f rows that Krum chose.

    >>> bulyan(torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [99.0]]), 1)
    Aggregate(vector=tensor([2.]), cluster=(0, 1, 2, 3, 4))
    """
    n = x.shape[0]
    distances = Distances(x, exact=True)  # most choices are close calls here
    left = list(range(n))
    chosen: list[int] = []
    while len(chosen) < n - 2 * f:
        others = max(1, len(left) - f - 2)
        among = distances.squared[left][:, left].sort(dim=1).values
        chosen.append(left.pop(int(mean_cost(among[:, : others + 1]).argmin())))
    chosen.sort()
    return Aggregate(nearest_to_median(x, chosen, n - 4 * f), tuple(chosen))
