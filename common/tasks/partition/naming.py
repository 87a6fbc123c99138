"""How users name a partition: `uniform`, `dirichlet(alpha=0.1, total=62)`, `by_writer`, `by_shards(shards=2)`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import parse_call, unknown, written
from ostrakon.common.tasks.partition.parts import Partition
from ostrakon.common.tasks.partition.schemes import by_shards, by_writer, dirichlet, uniform

_SCHEMES: dict[str, tuple[Callable[..., Partition], tuple[str, ...]]] = {
    "uniform": (uniform, ()),
    "dirichlet": (dirichlet, ("alpha", "total")),
    "by_writer": (by_writer, ()),
    "by_shards": (by_shards, ("shards",)),
}


@dataclass(frozen=True)
class Scheme:
    """A way to partition data, with the parameters that a user chose; as text, all of them with their values."""

    name: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        return written(self.name, self.parameters)

    @property
    def of_writers(self) -> bool:
        """Whether it asks who made each example."""
        return self.name == "by_writer"

    def __call__(
        self, groups: ArrayLike, workers: int, seed: int, *, is_test: ArrayLike | None = None, **sizes: int
    ) -> Partition:
        """Partition the data.

        Args:
            groups: (N,) integers: the writers where `of_writers`, the labels otherwise.
            is_test: (N,) bool, marks the examples of an official test set.
            sizes: of what each worker gets: `training`, `test`, `per_class`, `test_per_class`; each scheme takes those
                that it has.

        Raises:
            OstrakonError: the data or a parameter cannot be used.
        """
        function, _ = _SCHEMES[self.name]
        known = inspect.signature(function).parameters
        taken = {name: size for name, size in sizes.items() if name in known}
        return function(groups, workers, seed, is_test=is_test, **taken, **self.parameters)


def scheme(text: str) -> Scheme:
    """The partition that a user named.

    >>> str(scheme("dirichlet(alpha=0.3)"))
    'dirichlet(alpha=0.3, total=1)'

    Raises:
        OstrakonError: there is no such partition or parameter, or a parameter cannot have such a value.
    """
    if not isinstance(text, str):
        raise OstrakonError(f"partition = {text!r} is no name: give one of {', '.join(_SCHEMES)}")
    name, given = parse_call(text)
    if name not in _SCHEMES:
        raise unknown("partition", name, _SCHEMES)
    function, known = _SCHEMES[name]
    for parameter in given:
        if parameter not in known:
            raise OstrakonError(f"partition {name} has no parameter {parameter} (known: {', '.join(known) or 'none'})")
    defaults = {each: inspect.signature(function).parameters[each].default for each in known}
    made = Scheme(name, defaults | given)
    made(np.empty(0, np.int64), 1, 0)  # refuses a parameter's value before there are data
    return made
