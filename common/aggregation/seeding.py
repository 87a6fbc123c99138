"""Randomness for rules that need some."""

import hashlib

import torch

from ostrakon.common.aggregation.matrix import Matrix

_NUMBERS = 1 << 17


def generator_of(x: Matrix, seed: int) -> torch.Generator:
    """Random numbers that follow from a seed and the rows alone, so that the same round gives the same model anywhere.

    What enters is as many columns, at equal distances, as hold 2^17 numbers. So the draw is new in each round; who does
    not know all other rows cannot foresee it, and a liar who does can choose it, by trying what to send.

    Args:
        x: (n, d) floating-point.
        seed: any integer.
    """
    stride = -(-x.shape[1] // max(1, _NUMBERS // x.shape[0]))
    sample = x[:, ::stride].double().cpu().numpy().tobytes()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed} ".encode() + sample).digest()[:8]))
