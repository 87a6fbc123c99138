"""Column blocks of the (n, d) matrix: every pass over it works in float64 on one block at a time."""

from collections.abc import Iterator

from torch import Tensor

_CACHED_BYTES = 1 << 21  # about the second-level cache of one core
_DEVICE_BYTES = 1 << 26  # enough work per kernel on an accelerator


def column_blocks(x: Tensor, rows: int) -> Iterator[slice]:
    """Consecutive slices of the columns of x, (n, d), so narrow that `rows` float64 rows of one stay in cache.

    The width depends on `rows` and the kind of device alone, so that sums over blocks are the same in every run.
    """
    d = x.shape[1]
    budget = _CACHED_BYTES if x.device.type == "cpu" else _DEVICE_BYTES
    width = max(512, budget // (8 * rows))
    for start in range(0, d, width):
        yield slice(start, min(start + width, d))
