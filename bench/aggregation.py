"""The rules against what they cannot do without, on the same rows in the same run.

The floor of a rule is made of the fastest forms found of a Gram product over the rows, in cache-sized blocks, and of an
(m, n) by (n, d) product for its m results: of both for rules that need all distances, of the product alone for the
others. Krum, whose result is a row, is measured by the Gram product alone. For GM, whose distances are those to two
points, the Gram product is no floor but a yardstick: that of the rules that it is compared with.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ostrakon.bench.clock import Duration, durations
from ostrakon.bench.peak import peak_bytes
from ostrakon.bench.rows import HOSTILE, hostile, ordinary
from ostrakon.common.aggregation import RULES, rule
from ostrakon.common.aggregation.registry import EXAMPLES
from ostrakon.common.errors import OstrakonError

SORT = "torch.sort"
DEFAULT = (*RULES, *EXAMPLES, "NNM+Avg", "Bucketing(2)+Avg", "ARC+Avg")

_BLOCKS = (1024, 2048, 4096, 8192, 16384)
_GPU_BLOCKS = (1 << 16, 1 << 20)


@dataclass(frozen=True)
class Row:
    """One measurement: medians, and the peak of memory beyond rows and results."""

    rule: str
    n: int
    f: int
    d: int
    threads: int
    device: str
    milliseconds: float
    cpu_milliseconds: float
    floor_milliseconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Report:
    """What one run measured, all on the same rows."""

    rows: list[Row]
    sort: Duration
    """torch.sort over the rows, as the plain way to medians and trimmed means."""

    bytes_per_second: float
    """At which the rows are read: measured by summing them up."""

    skipped: list[str]
    """Why some rules were left out."""


def measure(names: tuple[str, ...], n: int, f: int, d: int, device: torch.device, threads: int, repeat: int) -> Report:
    """Time rules and floors in turn.

    Raises:
        OstrakonError: a rule is unknown, or none of them can be used with n and f.
    """
    x = ordinary(n, d, device)
    fitting, skipped = _fitting(names, n, f)
    floors = dict(_floors(x))
    works: dict[str, Callable[[], object]] = {name: partial(rule(name).aggregate, x, f) for name in fitting}
    timed = durations({**floors, **works, SORT: partial(torch.sort, x, dim=0)}, device, repeat)
    best = {kind: min(timed[name].milliseconds for name in floors if name.startswith(kind)) for kind in _KINDS}
    rows = [
        Row(
            name,
            n,
            f,
            d,
            threads,
            str(device),
            *timed[name],
            _floor(name, best),
            peak_bytes(name, n, f, d, device, threads),
        )
        for name in fitting
    ]
    return Report(rows, timed[SORT], x.nbytes / (best["read"] / 1e3), skipped)


def slowdowns(
    names: tuple[str, ...], n: int, f: int, d: int, device: torch.device, repeat: int
) -> dict[str, dict[str, float]]:
    """How many times longer each rule takes when the f liars send each kind of hostile rows."""
    fitting, _ = _fitting(names, n, f)
    inputs = {"ordinary": ordinary(n, d, device), **{kind: hostile(kind, n, f, d, device) for kind in HOSTILE}}
    result = {}
    for name in fitting:
        works = {kind: partial(rule(name).aggregate, x, f) for kind, x in inputs.items()}
        timed = durations(works, device, repeat)
        result[name] = {kind: timed[kind].milliseconds / timed["ordinary"].milliseconds for kind in HOSTILE}
    return result


_KINDS = ("gram", "product of 1", "product of 2", "product of n", "read")


def _floor(name: str, best: dict[str, float]) -> float:
    one = rule(name)
    results = "n" if "NNM" in one.name else "2" if one.two_phase else "1"
    product = 0.0 if one.name == "Krum" else best[f"product of {results}"]
    return product + (best["gram"] if "n^2 d" in one.cost.time or one.name.startswith("GM") else 0)


def _floors(x: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    n, d = x.shape
    widths = _BLOCKS if x.device.type == "cpu" else _GPU_BLOCKS
    for width in (*widths, d):
        yield f"gram {width}", partial(_gram, x, width)
        for m, label in ((1, "1"), (2, "2"), (n, "n")):
            weights = torch.full((m, n), 1 / n, device=x.device)
            yield f"product of {label} {width}", partial(_product, weights, x, width)
    yield "read", partial(torch.sum, x, dim=1)


def _gram(x: Tensor, width: int) -> Tensor:
    total = torch.zeros(len(x), len(x), device=x.device)
    for start in range(0, x.shape[1], width):
        block = x[:, start : start + width]
        total.addmm_(block, block.T)
    return total


def _product(weights: Tensor, x: Tensor, width: int) -> Tensor:
    result = x.new_empty(len(weights), x.shape[1])
    for start in range(0, x.shape[1], width):
        torch.mm(weights, x[:, start : start + width], out=result[:, start : start + width])
    return result


def _fitting(names: tuple[str, ...], n: int, f: int) -> tuple[list[str], list[str]]:
    fitting, skipped = [], []
    for name in names:
        chosen = rule(name)
        try:
            chosen.check(n, f)
            fitting.append(name)
        except OstrakonError as refusal:
            skipped.append(f"{name}: {refusal}")
    if not fitting:
        raise OstrakonError(f"no rule is left to time: {'; '.join(skipped)}")
    return fitting, skipped
