"""Floats of half the bytes: bfloat16, the upper half of a float32, as momenta and aggregates travel where asked.

numpy has no such type: a vector (d,) of bfloat16 is one of uint16 here. All is computed in blocks, so that no (d,)
temporary is needed.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.algorithm import Step

Wire = Literal["float32", "bf16"]

Half = NDArray[np.uint16]
Float = NDArray[np.float32]

_BLOCK = 1 << 18  # values
_NAN = 0x7FC0


def rounded(vector: Float) -> Half:
    """The nearest bfloat16 of each value, (d,), ties to the even one; beyond the largest it is infinite, NaN is NaN."""
    half = np.empty(vector.shape, np.uint16)
    for part in _blocks(vector.size):
        bits = vector[part].view(np.uint32)
        nearest = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
        half[part] = np.where(np.isnan(vector[part]), _NAN, nearest)
    return half


def widened(half: Half, into: Float | None = None) -> Float:
    """The same values as float32, (d,), exactly.

    Args:
        into: memory for them; `half` may be the upper half of it.
    """
    wide = np.empty(half.shape, np.float32) if into is None else into
    for part in _blocks(half.size):  # from the start on: where they share memory, no value is overwritten unread
        wide[part].view(np.uint32)[:] = half[part].astype(np.uint32) << 16
    return wide


def upper_half(vector: Float) -> Half:
    """The memory of the upper half of a vector (d,) of float32: that of d values of bfloat16."""
    return vector.view(np.uint16)[vector.size :]


def candidate(theta: Float, aggregate: Half, taken: Step) -> Float:
    """keep * theta - gamma * aggregate, (d,), in float32: each operation rounded to nearest, the same on any machine.

    keep and gamma are rounded to float32 before.
    """
    formed = widened(aggregate)
    rate, keep = np.float32(taken.gamma), np.float32(taken.keep)
    for part in _blocks(theta.size):
        formed[part] *= rate
        kept = theta[part] if keep == 1 else theta[part] * keep
        np.subtract(kept, formed[part], out=formed[part])
    return formed


class ErrorFeedback:
    """What rounding has taken from earlier momenta of a worker is added to the next: over time nothing is lost.

    Source: error feedback for compressed gradients, Seide et al. 2014, Karimireddy et al. 2019.
    """

    def __init__(self) -> None:
        self._error: Float | None = None
        self._sent: tuple[tuple[int, str], Float] | None = None

    def __call__(self, round: int, base: str, momentum: Float) -> Float:
        """The momentum to send, (d,), whose values are of bfloat16; the same when asked again for a round and base."""
        key = round, base
        if self._sent is None or self._sent[0] != key:
            if self._error is None:
                self._error = np.zeros_like(momentum)
            due = momentum + self._error
            sent = widened(rounded(due))
            with np.errstate(invalid="ignore"):  # infinite, where the momentum is about to be
                np.subtract(due, sent, out=self._error)
            self._error[~np.isfinite(self._error)] = 0
            self._sent = key, sent
        return self._sent[1]


def _blocks(size: int) -> Iterator[slice]:
    for start in range(0, size, _BLOCK):
        yield slice(start, min(start + _BLOCK, size))
