"""Which parameter of a model lies where in theta: what tells two models of one size apart."""

import hashlib
import json
import math
from itertools import zip_longest

Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of the parameters, in flat order."""


def parameters(layout: Layout) -> int:
    """d: how many values the parameters of a layout have in all."""
    return sum(math.prod(shape) for _, shape in layout)


def layout_digest(layout: Layout) -> str:
    """The name of a layout: hexadecimal SHA-256 of its JSON, `[["0.weight",[6,4]],...]` without spaces, in ASCII."""
    return hashlib.sha256(json.dumps(layout, separators=(",", ":")).encode("ascii")).hexdigest()


def difference(run: Layout, other: Layout, whose: str) -> str:
    """Where a model first differs from the run's, in half a sentence; empty if nowhere.

    Args:
        whose: what the other model is called: `the worker's`.
    """
    for place, (expected, found) in enumerate(zip_longest(run, other)):
        if expected != found:
            return f"parameter {place} of this run's model is {_shown(expected)}, of {whose} {_shown(found)}"
    return ""


def _shown(parameter: tuple[str, tuple[int, ...]] | None) -> str:
    if parameter is None:
        return "not there"
    name, shape = parameter
    return f"{name} {shape}"
