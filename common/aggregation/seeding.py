"""Randomness for rules that need some."""

import hashlib

import torch

from common.aggregation.matrix import Matrix

_COLUMNS = 64


def generator_of(x: Matrix, seed: int) -> torch.Generator:
    """Random numbers that follow from a seed and the rows alone, so that the same round gives the same model anywhere.

    They are new in each round, and who does not know everybody else's row cannot foresee them.

    Args:
        x: (n, d) floating-point.
        seed: any integer.
    """
    sample = x[:, :_COLUMNS].double().cpu().numpy().tobytes()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed} ".encode() + sample).digest()[:8]))
