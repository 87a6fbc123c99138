"""Attacks of a worker that knows nothing but its own vector.

As all attacks: `(honest, corrupted, ...) -> what the corrupted send`, from the true vectors of the h honest, (h, d),
and of the b corrupted, (b, d), to (b, d), all floating-point, on one device. Nothing is
written into. Here `honest` is not looked at and may have no rows.
"""

import numpy as np
from torch import Tensor

from ostrakon.worker.attacks.moments import lengths, normals


def label_flipping(honest: Tensor, corrupted: Tensor) -> Tensor:
    """LF: the vectors themselves; the lie is in the labels that they were trained on, see `Task.flip`.

    Source: the paper, appendix D.2.
    """
    return corrupted


def sign_flipping(honest: Tensor, corrupted: Tensor, *, scale: float = 1.0) -> Tensor:
    """SF: `-scale * m_i`. Source: the paper, appendix D.2, there with scale 1.

    >>> sign_flipping(torch.empty(0, 2), torch.tensor([[1.0, -2.0]]), scale=10)
    tensor([[-10.,  20.]])
    """
    return -scale * corrupted


def gaussian(honest: Tensor, corrupted: Tensor, rng: np.random.Generator, *, scale: float = 1.0) -> Tensor:
    """Gauss: `scale * |m_i| * z_i / |z_i|`, z_i from N(0, I). Source: the paper, appendix D.2, with scale 1.

    Args:
        rng: what the rows are drawn from: see `moments.normals`.

    >>> gaussian(torch.empty(0, 2), torch.tensor([[3.0, 4.0]]), np.random.default_rng(0)).norm()
    tensor(5.)
    """
    noise = normals(corrupted, rng)
    return noise * (scale * lengths(corrupted) / lengths(noise)).to(corrupted)[:, None]
