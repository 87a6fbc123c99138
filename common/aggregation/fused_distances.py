"""All distances in one pass over rows on a GPU, and how the work is divided."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ostrakon.common.aggregation.fused import kernels, on


class Tiles(NamedTuple):
    """How `kernels.squared_distances` divides its work."""

    size: int
    """Rows by rows in a tile, whose sums a thread keeps in registers."""

    at_once: int
    """Tiles in a program, a warp each."""

    unroll: int
    """Columns of a lane that are added up first, before they are added to the sum."""

    steps: int
    """How often that is done in float32."""

    stages: int
    """Steps under way at a time."""

    registers: int
    """What a thread may take of them, so that enough programs fit on a processor."""

    @property
    def roundings(self) -> int:
        """At most how many a float32 sum comes with: of a difference, which is squared, the sum, and that of 32 lanes.

        A difference has one, twice in its square; the sum of `unroll` squares has as many; then there are `steps` sums,
        and five levels of lanes. Beyond these the sums are float64.
        """
        return 2 + self.unroll + self.steps + 5


SINGLE = Tiles(size=6, at_once=8, unroll=4, steps=32, stages=1, registers=128)
DOUBLE = Tiles(size=4, at_once=8, unroll=4, steps=32, stages=1, registers=168)


def squared_distances(x: Tensor, rows: Sequence[int], others: Sequence[int], *, exact: bool) -> Tensor:
    """Squared Euclidean distances between some rows of x and some others, as sums of squared differences.

    Args:
        x: (n, d) float32.
        rows: k row numbers.
        others: m row numbers; if they are `rows`, half of the work is left out.
        exact: compute in float64; else with at most `SINGLE.roundings` roundings of float32.

    Returns:
        (k, m) float64 on the CPU; NaN or +inf where a row is not finite, or float32 cannot hold the square. The same
        bits whatever the order of the rows.
    """
    shape = DOUBLE if exact else SINGLE
    tiles = _tiles(tuple(rows), tuple(others), shape.size, x.device)
    sums = _sums(x, tiles.first, tiles.second, shape, exact=exact).flatten().cpu()
    result = torch.empty(len(rows), len(others), dtype=torch.float64)
    result[tiles.row, tiles.other] = sums
    if tiles.symmetric:
        result[tiles.other, tiles.row] = sums
    return result


def squared_distances_of_rounds(x: Tensor) -> Tensor:
    """Squared Euclidean distances between all rows of each round, computed in float64, without waiting for the GPU.

    Args:
        x: (R, n, d) float32, without gaps.

    Returns:
        (R, n, n) float64 on its device; else as of `squared_distances`.
    """
    rounds, n, d = x.shape
    every = tuple(range(n))
    tiles = _tiles(every, every, DOUBLE.size, x.device)
    first_rows = n * torch.arange(rounds, device=x.device)[:, None, None]
    first, second = ((one + first_rows).flatten(0, 1) for one in (tiles.first, tiles.second))
    sums = _sums(x.view(-1, d), first, second, DOUBLE, exact=True).view(rounds, -1)
    result = x.new_empty(rounds, n, n, dtype=torch.float64)
    result[:, tiles.row_there, tiles.other_there] = sums
    result[:, tiles.other_there, tiles.row_there] = sums
    return result


def _sums(x: Tensor, first: Tensor, second: Tensor, shape: Tiles, *, exact: bool) -> Tensor:
    """Of each tile, rows `first`, (tiles, size), by rows `second`, the distances: (tiles, size**2) float64."""
    language = kernels().tl
    kind, triton_kind = (torch.float64, language.float64) if exact else (torch.float32, language.float32)
    d = x.shape[1]
    count = len(first)
    at_once = min(shape.at_once, 1 << (count - 1).bit_length())
    chunks = -(-count // at_once)
    spans = -(-d // (32 * shape.unroll * shape.steps))
    partial = torch.empty(spans, count, shape.size**2, dtype=kind, device=x.device)
    with on(x.device):
        kernels().squared_distances[(spans * chunks,)](
            x,
            x.stride(0),
            first,
            second,
            partial,
            d,
            count,
            chunks,
            KIND=triton_kind,
            SIZE_A=shape.size,
            SIZE_B=shape.size,
            PAIRS=max(32, 1 << (shape.size**2 - 1).bit_length()),
            TILES=at_once,
            UNROLL=shape.unroll,
            STEPS=shape.steps,
            STAGES=shape.stages,
            num_warps=at_once,
            maxnreg=shape.registers,
        )
    sums: Tensor = partial.sum(dim=0, dtype=torch.float64)
    return sums


class _Tiling(NamedTuple):
    first: Tensor
    second: Tensor
    row: Tensor
    other: Tensor
    row_there: Tensor
    other_there: Tensor
    symmetric: bool


@lru_cache(maxsize=16)
def _tiles(rows: tuple[int, ...], others: tuple[int, ...], size: int, device: torch.device) -> _Tiling:
    """Row numbers on the device, (tiles, size) each, and of each distance where it belongs, here and on the device."""
    symmetric = rows == others
    groups, other_groups = _groups(len(rows), size), _groups(len(others), size)
    pairs = [(a, b) for a in range(len(groups)) for b in range(a if symmetric else 0, len(other_groups))]
    row = torch.stack([groups[a] for a, _ in pairs])
    other = torch.stack([other_groups[b] for _, b in pairs])
    row_of, other_of = row[:, :, None].expand(-1, -1, size).flatten(), other[:, None, :].expand(-1, size, -1).flatten()
    return _Tiling(
        torch.tensor(rows)[row].to(device),
        torch.tensor(others)[other].to(device),
        row_of,
        other_of,
        row_of.to(device),
        other_of.to(device),
        symmetric,
    )


def _groups(count: int, size: int) -> list[Tensor]:
    """The places 0, ..., count - 1 in groups of `size`; the last place fills up the last group."""
    return list(torch.arange(-(-count // size) * size).clamp_(max=count - 1).view(-1, size))
