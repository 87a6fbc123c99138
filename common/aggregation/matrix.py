"""The (n, d) matrix of a round, read a block of columns at a time: what a block needs stays in cache."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Matrix(Protocol):
    """What rules read: a tensor, or rows that come from one."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __getitem__(self, index: Any, /) -> Tensor: ...


class ChosenRows:
    """Some rows of a matrix as one of their own, gathered a block of columns at a time instead of copied."""

    def __init__(self, x: Matrix, rows: Sequence[int]) -> None:
        self.rows = x
        self.numbers = list(rows)
        self._index = torch.tensor(self.numbers, device=x.device)
        self.shape = torch.Size((len(rows), x.shape[1]))
        self.dtype = x.dtype
        self.device = x.device

    def __getitem__(self, index: Any, /) -> Tensor:
        """`[row]`, `[row, columns]` or `[:, columns]`."""
        row, columns = index if isinstance(index, tuple) else (index, slice(None))
        if isinstance(row, slice):
            return self.rows[:, columns].index_select(0, self._index)
        return self.rows[self.numbers[row], columns]


class PlacedRows:
    """A matrix of which it is known whose rows they are."""

    def __init__(self, x: Matrix, places: Sequence[Sequence[int]]) -> None:
        """`places` are, for each row, those on the roster that it stands for."""
        self.rows = x
        self.places = places
        self.shape = x.shape
        self.dtype = x.dtype
        self.device = x.device

    def __getitem__(self, index: Any, /) -> Tensor:
        return self.rows[index]


class ChosenColumns:
    """Some columns of a matrix as one of their own, likewise."""

    def __init__(self, x: Matrix, columns: Tensor) -> None:
        self._x = x
        self._columns = columns.to(x.device)
        self.shape = torch.Size((x.shape[0], len(columns)))
        self.dtype = x.dtype
        self.device = x.device

    def __getitem__(self, index: Any, /) -> Tensor:
        """`[:, columns]`."""
        rows, columns = index
        return self._x[rows, self._columns[columns]]


def column_blocks(d: int, width: int) -> Iterator[slice]:
    """Consecutive slices of d columns, each `width` wide but the last, which has what is left."""
    for start in range(0, d, width):
        yield slice(start, min(start + width, d))


def blocks(x: Matrix, width: int) -> Iterator[Tensor]:
    """The columns of x in the same blocks, (n, width) each but the last; views of it, all cut at once, if it is one."""
    while isinstance(x, PlacedRows):
        x = x.rows
    if isinstance(x, Tensor):
        yield from torch.split(x, width, dim=1)
    else:
        for columns in column_blocks(x.shape[1], width):
            yield x[:, columns]


def empty_like(x: Matrix, *shape: int) -> Tensor:
    """Fresh memory of x's type, on its device."""
    return torch.empty(shape, dtype=x.dtype, device=x.device)


LARGEST = 1e140
"""Float64 numbers up to here can be squared and summed up."""


def usable_rows(x: Tensor) -> list[int]:
    """The rows of x, (n, d) float32 or float64, that hold neither NaN nor infinity nor more than LARGEST, ascending.

    One pass at the speed of memory: only float32 rows whose sum is not finite are looked at again, number by number.
    """
    if x.dtype == torch.float64:
        least, greatest = torch.aminmax(x, dim=1)
        fine = (least >= -LARGEST) & (greatest <= LARGEST)
        return [row for row, usable in enumerate(fine.tolist()) if usable]
    sums = torch.isfinite(x.sum(dim=1)).tolist()
    return [row for row, finite in enumerate(sums) if finite or all_finite(x[row])]


def all_finite(x: Tensor) -> bool:
    """Whether x, not empty, holds neither NaN nor infinity."""
    return all(torch.isfinite(end) for end in torch.aminmax(x))
