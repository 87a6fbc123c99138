"""How corrupted workers mount an attack in a round: what each is given, and which random numbers it draws."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.worker.attacks.registry import Attack
from ostrakon.worker.attacks.tailored import Defence
from ostrakon.worker.sampling import ATTACK, COLLUSION, generator

Vector = NDArray[np.float32]


def alone(attack: Attack, vector: Vector, *, seed: int, worker: int, round: int) -> Vector:
    """What a worker that knows nothing but its own true vector, (d,), sends instead, in memory of its own."""
    corrupted = torch.from_numpy(vector.copy())[None]  # LF sends it as it is, and what is sent is kept
    (row,) = attack.send(corrupted[:0], corrupted, rng=generator(seed, ATTACK, worker, round))
    sent: Vector = row.contiguous().numpy()
    return sent


def together(
    attack: Attack,
    honest: Sequence[Vector],
    corrupted: Sequence[Vector],
    *,
    seed: int,
    round: int,
    defence: Defence,
) -> list[Vector]:
    """What colluders send instead of their true vectors, (d,) each, who know these of the honest, in roster order.

    Raises:
        OstrakonError: the vectors are not of one length, or the attack cannot be mounted with what came.
    """
    rng = generator(seed, COLLUSION, 0, round)
    d = len(corrupted[0])
    sent = attack.send(_matrix(honest, d), _matrix(corrupted, d), rng=rng, defence=defence)
    return [row.contiguous().numpy() for row in sent]


def _matrix(vectors: Sequence[Vector], d: int) -> torch.Tensor:
    if any(len(vector) != d for vector in vectors):
        raise OstrakonError("colluders and tapped workers were built for different models")
    return torch.from_numpy(np.stack(vectors)) if vectors else torch.empty(0, d)
