"""What a rule is: the function, when it applies, what is proved of it and what it takes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ostrakon.common.aggregation import fused
from ostrakon.common.aggregation.guarantees import Guarantee
from ostrakon.common.aggregation.matrix import ChosenRows, PlacedRows, usable_rows
from ostrakon.common.aggregation.means import Aggregate
from ostrakon.common.aggregation.side_by_side import Decide
from ostrakon.common.errors import OstrakonError

_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

Check = Callable[[int, int], None]
"""Takes n and f. Raises OstrakonError, with a sentence for the user, when they cannot be used."""

BLOCK_BYTES = 24 << 20
"""What blocks of columns and n x n matrices take at most on the CPU, whatever the rule and d, for n up to 200."""


@dataclass(frozen=True)
class Cost:
    """What a rule takes, for n rows of d numbers."""

    time: str
    memory: str
    """Beyond the rows and the result; `n^2` and `blocks` together are no more than BLOCK_BYTES."""

    vectors: Callable[[int, int], int] = lambda n, f: 0
    """How many vectors (d,) of the rows' type that memory has room for; parts that do not grow with d not counted."""


@dataclass(frozen=True)
class Rule:
    """An aggregation rule: from a round's rows to one vector, or to Inner and Outer for the vote."""

    name: str
    two_phase: bool
    function: Callable[[PlacedRows, int], tuple[Aggregate, ...]]
    """From finite rows and f. n and f have passed `applies`."""

    applies: Check
    """Whether it can be used with n rows and f."""

    guarantee: Guarantee | None
    """Of the first aggregate; None where nothing is proved for every input."""

    cost: Cost
    formula: str
    """What it computes, in a line."""

    source: str
    """Who proposed it."""

    trusts: tuple[int, ...] = ()
    """Places on the roster whose workers must be honest."""

    reads_all: bool = False
    """Whether on a GPU, with f > 0, kernels come upon every number before anything is decided (`fused.NotFinite`)."""

    side_by_side: Decide | None = None
    """What it decides in many rounds at once, for `side_by_side.aggregates`; None for rules that go one by one."""

    @torch.no_grad()
    def aggregate(self, x: Tensor, f: int, positions: Sequence[int] | None = None) -> tuple[Aggregate, ...]:
        """Apply the rule.

        A row with NaN or infinity (or, in float64, a number beyond 1e140, whose square cannot be held) is left out,
        like one that did not arrive: with b such rows the result is that on the n - b others with f - b, 0 at least.

        Args:
            x: (n, d) floating-point, in roster order, on the CPU or a CUDA GPU; it is not written to. Types of less
                than 32 bits are copied to float32.
            f: bound on Byzantine rows among them.
            positions: whose rows they are, n places on the roster; 0 to n-1 if not given. For rules that trust one.

        Returns:
            One aggregate, or Inner and Outer, with the dtype and device of x. The same bits for the same rows, whatever
            the number of threads.

        Raises:
            OstrakonError: x is no such matrix, has no finite row, or the rule cannot be used with n and f.
        """
        self._check_matrix(x)
        n = x.shape[0]
        (self.check if positions is None else self.applies)(n, f)
        whose = range(n) if positions is None else positions
        if len(whose) != n:
            raise OstrakonError(f"{len(whose)} positions came with {n} rows: each row has one")
        wide = x.float() if x.element_size() < 4 else x
        if self.reads_all and f and n <= fused.LARGEST_NETWORK and fused.usable(wide):
            try:  # Mostly all are finite, and a pass over the rows is spared.
                return self._of_finite(x.dtype, wide, list(range(n)), f, whose)
            except fused.NotFinite:
                pass
        rows = usable_rows(wide)
        if not rows:
            raise OstrakonError(f"none of the {n} rows given to rule {self.name} is finite")
        lost = n - len(rows)
        if lost:
            f = max(0, f - lost)
            self.applies(n - lost, f)
        return self._of_finite(x.dtype, wide, rows, f, whose)

    def check(self, n: int, f: int) -> None:
        """Check whether the rule can be used for n workers of which f may lie.

        Raises:
            OstrakonError: it cannot; the sentence says what can.
        """
        self.applies(n, f)
        last = max(self.trusts, default=0)
        if last >= n:
            raise OstrakonError(f"{self.name} trusts place {last} of n={n} workers: places are 0 to {n - 1}")

    def check_run(self, n: int, f: int, *, asynchronous: bool) -> None:
        """Check n and f of every round that a run can have: silent workers count as some of the f, except with an
        asynchronous quorum, which waits for 2f + 1 and keeps the full f.

        Raises:
            OstrakonError: the rule cannot be used in one of them.
        """
        self.check(n, f)
        fewest = max(n - f, 2 * f + 1) if asynchronous else n - f
        for arrived in range(fewest, n):
            try:
                self.applies(arrived, f if asynchronous else f - (n - arrived))
            except OstrakonError as refusal:
                raise OstrakonError(
                    f"a round may have the rows of {arrived} of the {n} workers only: {refusal}. Give a smaller f"
                    + (", or quorum = synchronous, which lowers f with each missing row" if asynchronous else "")
                ) from None

    def _of_finite(
        self, dtype: torch.dtype, x: Tensor, rows: list[int], f: int, whose: Sequence[int]
    ) -> tuple[Aggregate, ...]:
        finite = x if len(rows) == len(x) else ChosenRows(x, rows)
        aggregates = self.function(PlacedRows(finite, [(whose[row],) for row in rows]), f)
        return tuple(Aggregate(one.vector.to(dtype), tuple(rows[row] for row in one.cluster)) for one in aggregates)

    def _check_matrix(self, x: object) -> None:
        if not isinstance(x, Tensor):
            raise OstrakonError(f"rule {self.name} takes an (n, d) torch.Tensor, not a {type(x).__name__}")
        if x.dim() != 2 or not x.shape[1] or x.dtype not in _TYPES or x.layout != torch.strided:
            raise OstrakonError(
                f"rule {self.name} takes a dense (n, d) tensor of float64, float32, float16 or bfloat16, d at least 1, "
                f"not one of shape {tuple(x.shape)} and {x.dtype}"
            )
        if x.device.type not in ("cpu", "cuda"):
            raise OstrakonError(f"rule {self.name} takes tensors on the CPU or a CUDA GPU, not on {x.device}")


def check_minority(n: int, f: int) -> None:
    """Refuse anything but a minority of Byzantine workers.

    Raises:
        OstrakonError: n is not positive, or f is negative or not below n/2, or one of them is no whole number.
    """
    if not isinstance(n, int) or not isinstance(f, int):
        raise OstrakonError(f"f={f} of n={n} workers: both are whole numbers")
    if n < 1:
        raise OstrakonError(f"n={n} workers: a rule needs at least 1")
    if f < 0:
        raise OstrakonError(f"f={f} of n={n} workers: f must not be negative")
    if 2 * f >= n:
        raise OstrakonError(f"f={f} of n={n} workers: f must be below n/2, so at most {(n - 1) // 2}")


def check_positive(name: str, **parameters: float) -> None:
    """Refuse parameters of a rule that are not positive and finite.

    Raises:
        OstrakonError: one of them is not.
    """
    for parameter, value in parameters.items():
        if not 0 < value < float("inf"):
            raise OstrakonError(f"{name}({parameter}={value!r}): {parameter} must be positive")


def needs_rows(name: str, per_f: int, more: int) -> Check:
    """The check of a rule that needs `n >= per_f * f + more`."""

    def check(n: int, f: int) -> None:
        check_minority(n, f)
        if n < per_f * f + more:
            most = (n - more) // per_f
            choice = f"f can be at most {most}" if most >= 0 else f"even f=0 needs n={more}"
            raise OstrakonError(f"f={f} of n={n} workers: {name} needs n >= {per_f}f + {more}, so with n={n} {choice}")

    return check


def check_cover(n: int, f: int) -> None:
    """The check of MDA, whose exact searches take up to 1.47^f steps where somebody made them hard."""
    check_minority(n, f)
    most = 50
    if f > most:
        raise OstrakonError(
            f"f={f} of n={n} workers: MDA searches for f rows exactly, which is feasible up to f={most}"
        )


def check_subsets(n: int, f: int) -> None:
    """The check of SMEA, which looks at all subsets of n-f rows."""
    check_minority(n, f)
    most = 100_000
    fits = 0
    while fits < f and math.comb(n, fits + 1) <= most:
        fits += 1
    if fits < f:
        digits = (math.lgamma(n + 1) - math.lgamma(f + 1) - math.lgamma(n - f + 1)) / math.log(10)
        raise OstrakonError(
            f"f={f} of n={n} workers: SMEA looks at every subset of n - f rows, about 10^{digits:.0f} of them, where "
            f"{most:,} are feasible: with n={n} f can be at most {fits}, or take MDA or CAF"
        )
