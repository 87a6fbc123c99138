"""Kernels for rows on a GPU, each of which reads them once; what they compute is what the plain torch code does.

Here are means, mixed rows and ranks; distances are in `fused_distances.py`.

They need Triton, which comes with builds of torch for CUDA, and the C compiler that it calls. Where it does not work,
and on the CPU, `rows_of` finds no rows for them, and torch does the work.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ostrakon.common.aggregation.matrix import ChosenRows, Matrix, PlacedRows
from ostrakon.common.aggregation.selection_network import network

LARGEST_NETWORK = 64
"""Rows whose values of two columns fit into the registers of a thread, with a network that is soon compiled."""


class NotFinite(Exception):
    """A kernel came upon NaN or infinity among the rows."""


class Sets(NamedTuple):
    """How `kernels.means` and `kernels.mixed` divide their work."""

    at_once: int
    """Sets whose sums a thread keeps in registers."""

    unroll: int
    """Rows read at a time."""

    width: int
    warps: int


FEW_SETS = Sets(at_once=2, unroll=4, width=512, warps=4)
MANY_SETS = Sets(at_once=4, unroll=4, width=512, warps=4)
MIXED = Sets(at_once=8, unroll=2, width=1024, warps=4)

RANK_WIDTH = 256
"""Columns of a program of 4 warps that finds ranks."""


def rows_of(x: Matrix) -> tuple[Tensor, list[int]] | None:
    """The tensor that the rows of x lie in, and their numbers there; None where the kernels cannot read them."""
    if isinstance(x, PlacedRows):
        return rows_of(x.rows)
    if isinstance(x, ChosenRows):
        below = rows_of(x.rows)
        return below and (below[0], [below[1][row] for row in x.numbers])
    if isinstance(x, Tensor) and usable(x):
        return x, list(range(len(x)))
    return None


def usable(x: Tensor) -> bool:
    """Whether the kernels read x: float32 on a GPU, each row without gaps, and Triton works there."""
    return x.is_cuda and x.dtype == torch.float32 and x.stride(1) == 1 and works(x.device)


def means(x: Tensor, sets: Sequence[Sequence[int]], results: Sequence[Tensor]) -> None:
    """Write the means of some sets of rows of x, (n, d) float32, each set ascending, as `means.means` computes them."""
    rows = sorted(set().union(*sets))
    shape = FEW_SETS if len(sets) <= FEW_SETS.at_once else MANY_SETS
    sets_at_once = min(shape.at_once, len(sets))
    filled = -(-len(rows) // shape.unroll) * shape.unroll
    place = {row: index for index, row in enumerate(rows)}
    members = torch.zeros(-(-len(sets) // sets_at_once), filled, dtype=torch.int32)
    for number, one in enumerate(sets):
        members[number // sets_at_once, [place[row] for row in one]] |= 1 << number % sets_at_once
    starts = [(result.data_ptr() - results[0].data_ptr()) // 4 for result in results]
    aligned = results[0].data_ptr() % 16 == 0 and all(start % 4 == 0 for start in starts)
    d = x.shape[1]
    with on(x.device):
        kernels().means[(-(-d // shape.width),)](
            x,
            x.stride(0),
            _there(rows + rows[-1:] * (filled - len(rows)), torch.int64, x.device),
            members.to(x.device),
            _there([float(len(one)) for one in sets], torch.float64, x.device),
            _there(starts, torch.int64, x.device),
            results[0],
            filled,
            len(sets),
            d,
            SETS=sets_at_once,
            UNROLL=shape.unroll,
            WIDTH=shape.width,
            ALIGNED=4 if aligned else 1,
            num_warps=shape.warps,
        )


def means_of_rounds(x: Tensor, sets: Tensor) -> Tensor:
    """The means of k sets of rows in each of R rounds, (R, k, d), each as `means.means` computes it.

    Args:
        x: (R, n, d) float32, without gaps.
        sets: (R, k, n) bool, none empty.
    """
    rounds, n, d = x.shape
    result = x.new_empty(rounds, sets.shape[1], d)
    with on(x.device):
        kernels().means_of_rounds[(-(-d // FEW_SETS.width), rounds)](
            x,
            sets.to(torch.uint8).contiguous(),
            result,
            n,
            d,
            SETS=sets.shape[1],
            WIDTH=FEW_SETS.width,
            num_warps=FEW_SETS.warps,
        )
    return result


def mixed(x: Tensor, sets: Sequence[Sequence[int]], middle: int, out: Tensor) -> bool:
    """The means of sets of rows, all of the same size, as float32 sums of what rows differ by from one in the middle.

    Args:
        x: (n, d) float32.
        sets: m sets of row numbers, added up in ascending order.
        middle: the row in the middle.
        out: (m, d), where to write them.

    Returns:
        Whether all results are finite: else numbers were too large, and the results are to be made otherwise.
    """
    rows, shape = sorted(set().union(*sets)), MIXED
    filled = -(-len(rows) // shape.unroll) * shape.unroll
    place = {row: index for index, row in enumerate(rows)}
    weights = torch.zeros(-(-len(sets) // shape.at_once), filled, shape.at_once)
    for number, one in enumerate(sets):
        weights[number // shape.at_once, [place[row] for row in one], number % shape.at_once] = 1 / len(one)
    overflow = torch.zeros(1, dtype=torch.int32, device=x.device)
    d = x.shape[1]
    with on(x.device):
        kernels().mixed[(-(-d // shape.width),)](
            x,
            x.stride(0),
            _there(rows + rows[-1:] * (filled - len(rows)), torch.int64, x.device),
            _there([middle], torch.int64, x.device),
            weights.to(x.device),
            out,
            out.stride(0),
            overflow,
            filled,
            len(sets),
            d,
            SETS=shape.at_once,
            UNROLL=shape.unroll,
            WIDTH=shape.width,
            num_warps=shape.warps,
        )
    return not overflow.item()


def mean_of_ranks(x: Tensor, rows: Sequence[int], first: int, last: int) -> Tensor:
    """Of every coordinate the mean of the values of rank first, ..., last - 1 among some rows, summed up in float64.

    Args:
        x: (n, d) float32.
        rows: up to LARGEST_NETWORK row numbers.
        first: the least rank, from 0.
        last: one more than the greatest.

    Raises:
        NotFinite: one of these numbers is not finite.
    """
    d = x.shape[1]
    result = torch.empty(d, dtype=x.dtype, device=x.device)
    overflow = torch.zeros(1, dtype=torch.int32, device=x.device)
    comparisons = network(len(rows), first, last, False)
    with on(x.device):
        kernels().mean_of_ranks[(-(-d // RANK_WIDTH),)](
            x,
            x.stride(0),
            _there(rows, torch.int64, x.device),
            result,
            overflow,
            d,
            N=len(rows),
            FIRST=first,
            LAST=last,
            NETWORK=tuple(position for one in comparisons for position in (one.low, one.high)),
            COMPARISONS=len(comparisons),
            WIDTH=RANK_WIDTH,
            num_warps=4,
        )
    if overflow.item():
        raise NotFinite
    return result


def _there(values: Sequence[float], kind: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=kind).to(device, non_blocking=True)


def on(device: torch.device) -> AbstractContextManager[object]:
    """Where a kernel is to be launched."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def kernels() -> Any:
    """The module, which needs Triton."""
    from ostrakon.common.aggregation import kernels

    return kernels


@lru_cache(maxsize=8)
def works(device: torch.device) -> bool:
    """Whether kernels run on a GPU."""
    from ostrakon.common.aggregation import fused_distances

    try:
        x = torch.ones(35, 64, device=device)
        fused_distances.squared_distances(x, range(35), range(35), exact=False)  # what takes most of a GPU
        means(x, [range(35)], [torch.empty_like(x[0])])
    except Exception as error:  # no Triton, too small a GPU, no C compiler: whatever it is, torch can do it
        logging.getLogger(__name__).info("no fused kernels on %s: %s", device, error)
        return False
    return True
