"""Attacks of colluders that know the true vectors of all workers.

As all attacks: `(honest, corrupted, ...) -> what the corrupted send`, from the true vectors of the h honest, (h, d),
and of the b corrupted, (b, d), to (b, d), all floating-point, on one device, h and b at
least 1. Nothing is written into. `n` below is h + b and `f` is b: what there is, not what the server was told. Where
all corrupted send the same vector, the rows that are returned share its memory.
"""

import math
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ostrakon.common.aggregation.distances import Distances, squared_distances_to
from ostrakon.common.errors import OstrakonError
from ostrakon.worker.attacks.moments import deviation, lengths, mean, normals

Of = Literal["all", "honest", "corrupted"]
Direction = Literal["std", "sign", "unit"]


def omniscient(honest: Tensor, corrupted: Tensor, *, factor: float = 2.0) -> Tensor:
    """Omn: all send `mean(corrupted) - factor * n/f * mean(all)`; the plain average becomes `(1 - factor) * mean(all)`.

    With the factor 2 of the paper that is the true average turned around. Source: the paper, appendix D.2, after
    Blanchard et al. 2017; the text there exchanges the two means, which are equal in expectation.

    >>> omniscient(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]]))
    tensor([[-10.]])
    """
    everyone = torch.cat([corrupted, honest], dim=-2)
    turned = mean(corrupted).sub_(mean(everyone), alpha=factor * everyone.shape[-2] / corrupted.shape[-2])
    return _all_send(turned, corrupted)


def inner_product_manipulation(honest: Tensor, corrupted: Tensor, *, epsilon: float = 0.5) -> Tensor:
    """IPM: all send `-epsilon * mean(honest)`.

    Small values hide among the honest, large ones turn an average around. Source: Xie, Koyejo and Gupta 2020, who try
    values from 0.1 to 100.

    >>> inner_product_manipulation(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]]))
    tensor([[-1.]])
    """
    return _all_send(mean(honest).mul_(-epsilon), corrupted)


def empire(honest: Tensor, corrupted: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Empire: IPM with the paper's value, `-0.1 * mean(honest)`. Source: the paper, appendix D.2.

    >>> empire(torch.tensor([[10.0], [30.0]]), torch.tensor([[2.0]]))
    tensor([[-2.]])
    """
    return inner_product_manipulation(honest, corrupted, epsilon=epsilon)


def scaled_variance(honest: Tensor, corrupted: Tensor, *, factor: float = 20.0, of: Of = "all") -> Tensor:
    """SV: all send `mean(S) - factor * std(S)`, for each coordinate, S the true vectors of all workers.

    The deviation divides by the number of vectors. Source: the paper, appendix D.2, there with factor 20.

    Args:
        of: S; the authors' code takes the honest ones.

    >>> scaled_variance(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]]), of="honest")
    tensor([[-18.]])
    """
    rows = _of(of, honest, corrupted)
    return _all_send(mean(rows).sub_(deviation(rows), alpha=factor), corrupted)


def a_little_is_enough(honest: Tensor, corrupted: Tensor, *, z: float | None = None, of: Of = "honest") -> Tensor:
    """ALIE: all send `mean(S) - z * std(S)`, for each coordinate, z so small that some honest vectors are farther out.

    `z = Phi^-1((n - f - s) / (n - f))` with `s = floor(n/2 + 1) - f`, the number of honest workers that the corrupted
    need on their side for a majority, and Phi the distribution function of N(0, 1). Few corrupted workers among many
    need so many supporters that z is 0 or less. The deviation divides by the number of vectors. Source: Baruch, Baruch
    and Goldberg 2019.

    Args:
        z: a value of your own.
        of: S; with `corrupted` the colluders estimate from their own vectors, as published, and need no others.

    Raises:
        OstrakonError: n and f give no finite z.

    >>> a_little_is_enough(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([[3.0], [3.0]]), z=1.0)
    tensor([[1.3670],
            [1.3670]])
    """
    rows = _of(of, honest, corrupted)
    if z is None:
        b = corrupted.shape[-2]
        z = _greatest_z(honest.shape[-2] + b, b)
    return _all_send(mean(rows).sub_(deviation(rows), alpha=z), corrupted)


def _greatest_z(n: int, f: int) -> float:
    supporters = max(1, n // 2 + 1 - f)  # who are the majority need none; 1 keeps z finite
    share = (n - f - supporters) / (n - f)
    if not 0 < share < 1:
        raise OstrakonError(
            f"attack ALIE finds no z for {f} corrupted of n={n} workers: it needs 2 honest ones at least; or give z, "
            "as in ALIE(z=1)"
        )
    return NormalDist().inv_cdf(share)


def mimic(honest: Tensor, corrupted: Tensor, *, target: int = 0) -> Tensor:
    """Mimic: all send the vector of one honest worker, which then counts f + 1 times.

    Each vector is one that an honest worker would send: what suffers is what the other workers know. Source:
    Karimireddy, He and Jaggi 2022, who choose the target over many rounds; here it is fixed.

    Args:
        target: which honest worker, from 0 in roster order; the last one where there are no more.

    >>> mimic(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]]), target=1)
    tensor([[3.]])
    """
    return _all_send(honest[..., min(target, honest.shape[-2] - 1), :], corrupted)


def min_max(honest: Tensor, corrupted: Tensor, *, direction: Direction = "std") -> Tensor:
    """Min-Max: all send `mean(honest) + gamma * p`, no farther from any honest vector than two of these are apart.

    gamma is the largest with `max_i |x - x_i| <= max_{i,j} |x_i - x_j|`; it solves one quadratic equation for each i,
    where the authors search by halving. Source: Shejwalkar and Houmansadr 2021, equation 11.

    Args:
        direction: p. `std` is minus the deviation of each coordinate, `sign` minus the signs of the mean, `unit` minus
            the mean at length 1.

    >>> min_max(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]]))
    tensor([[1.]])
    """
    centre, p = mean(honest), _direction(direction, honest)
    limit = Distances(honest, exact=True).squared.max()
    from_centre = squared_distances_to(honest, centre)
    # |centre + gamma p - x_i|^2 = gamma^2 |p|^2 + 2 gamma <p, centre - x_i> + |centre - x_i|^2 <= limit
    length = float(lengths(p[None])) ** 2
    along = torch.stack([torch.dot(p.double(), (centre - row).double()) for row in honest]).cpu()
    roots = -along + torch.sqrt(torch.clamp(along**2 + length * (limit - from_centre), min=0))
    gamma = float(roots.min()) / length if length else 0.0
    return _all_send(centre.add_(p, alpha=gamma), corrupted)


def min_sum(honest: Tensor, corrupted: Tensor, *, direction: Direction = "std") -> Tensor:
    """Min-Sum: all send `mean(honest) + gamma * p`, no farther from the honest in sum of squares than one of them is.

    gamma is the largest with `sum_i |x - x_i|^2 <= max_i sum_j |x_i - x_j|^2`, the root of one quadratic equation
    whose linear term is 0. Source: Shejwalkar and Houmansadr 2021, equation 12.

    Args:
        direction: as of `min_max`.

    >>> min_sum(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]]))
    tensor([[1.]])
    """
    centre, p = mean(honest), _direction(direction, honest)
    limit = Distances(honest, exact=True).squared.sum(dim=1).max()
    room = limit - squared_distances_to(honest, centre).sum()
    length = float(lengths(p[None]))
    gamma = float(torch.sqrt(torch.clamp(room, min=0) / len(honest))) / length if length else 0.0
    return _all_send(centre.add_(p, alpha=gamma), corrupted)


def sneak(honest: Tensor, corrupted: Tensor) -> Tensor:
    """sneak: all send the mean of the f honest vectors that go least far along the mean of the honest.

    That is a point inside the honest cloud, on its wrong side. Whoever trims what is far away trims honest vectors;
    Outer leaves the f equal ones out. Source: this project, after the thought experiment of the paper, section 4.1.

    >>> sneak(torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[2.0], [2.0]]))
    tensor([[1.5000],
            [1.5000]])
    """
    centre = mean(honest).double()
    along = torch.stack([torch.dot(row.double(), centre) for row in honest])
    least = torch.argsort(along, stable=True)[: len(corrupted)]
    return _all_send(mean(honest[least]), corrupted)


def siege(honest: Tensor, corrupted: Tensor, rng: np.random.Generator, *, radius: float = 2.0) -> Tensor:
    """siege: each sends `mean(honest) + radius * r * (z_i - u) / sqrt(2)`: outside the honest cloud, on its wrong side.

    r is the distance of the farthest honest vector from `mean(honest)`, u the direction of that mean, and the z_i are
    random directions at right angles to u, so that the corrupted are no cluster. Inner leaves the distant ones out;
    Outer finds no cluster to leave out, so that one of the f that it removes may well be honest. Source: this project,
    after the thought experiment of the paper, section 4.1.

    Args:
        rng: what the rows are drawn from: see `moments.normals`.

    >>> siege(torch.tensor([[1.0, 0], [3, 0]]), torch.tensor([[2.0, 0]]), np.random.default_rng(0)).norm(dim=1)
    tensor([1.5307])
    """
    centre = mean(honest)
    reach = math.sqrt(squared_distances_to(honest, centre).max())
    u = _unit(centre)
    z = normals(corrupted, rng)
    z = z - (z @ u)[:, None] * u
    z = z / lengths(z).to(z)[:, None].clamp(min=torch.finfo(z.dtype).tiny)
    return centre + (z - u) * (radius * reach / math.sqrt(2))


def _of(which: Of, honest: Tensor, corrupted: Tensor) -> Tensor:
    if which == "honest":
        return honest
    return corrupted if which == "corrupted" else torch.cat([corrupted, honest], dim=-2)


def _direction(which: Direction, honest: Tensor) -> Tensor:
    if which == "std":
        return -deviation(honest)
    return -mean(honest).sign() if which == "sign" else -_unit(mean(honest))


def _unit(vector: Tensor) -> Tensor:
    length = float(lengths(vector[None]))
    return vector / length if length else vector


def _all_send(vector: Tensor, corrupted: Tensor) -> Tensor:
    return vector[..., None, :].expand(corrupted.shape)
