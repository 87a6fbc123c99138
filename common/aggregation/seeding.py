"""Randomness for rules that need some."""

import hashlib

import torch

from common.aggregation.matrix import Matrix

_COLUMNS = 4096


def generator_of(x: Matrix, seed: int) -> torch.Generator:
    """Random numbers that follow from a seed and the rows alone, so that the same round gives the same model anywhere.

    What enters is up to 4096 columns at equal distances, in float64. So the numbers are new in each round; who does not
    know all other rows cannot foresee them, and a liar who does can choose them, by trying what to send.

    Args:
        x: (n, d) floating-point.
        seed: any integer.
    """
    stride = -(-x.shape[1] // _COLUMNS)
    sample = x[:, ::stride].double().cpu().numpy().tobytes()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed} ".encode() + sample).digest()[:8]))
