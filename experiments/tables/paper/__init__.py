"""What the paper measured, from its tables, so that every cell can stand beside it."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Setting = Literal["homogeneous", "heterogeneous", "cifar10"]
_WHICH = ("rate", "rule")
_STD = "_std"


@dataclass(frozen=True)
class Known:
    """Mean test accuracy over five seeds, 0 to 1, and its standard deviation where the paper gives one."""

    accuracy: float
    std: float | None


@cache
def paper(setting: Setting) -> Mapping[tuple[float, str, str], Known]:
    """The accuracy at each rate of liars, of each rule, against each attack.

    >>> paper("homogeneous")[0.4, "Mean2P", "SF"]
    Known(accuracy=0.61, std=0.01)
    """
    text = files(__package__).joinpath(f"{setting}.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        for attack in row.keys() - {*_WHICH, *(name for name in row if name.endswith(_STD))}:
            std = row.get(f"{attack}{_STD}")
            known = Known(float(row[attack]), None if std is None else float(std))
            found[float(row["rate"]), row["rule"], attack] = known
    return found
