"""Under what a block of cells is measured: whose data, how many liars, and what the user chose."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.common.settings import build
from ostrakon.common.tasks.registry import takes
from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.tables.paper import Setting, paper
from ostrakon.experiments.tables.plan import Cell
from ostrakon.experiments.tables.settings import SOURCE, TableSettings

DATA: Mapping[Setting, tuple[str, str]] = MappingProxyType(
    {
        "homogeneous": ("femnist", "uniform over the classes"),
        "heterogeneous": ("femnist", "classes by Dir(0.1 p)"),
        "cifar10": ("cifar10", "uniform over the classes"),
    }
)
"""The task of each setting of the paper, and how its data are partitioned."""


@dataclass(frozen=True)
class Conditions:
    """One of the paper's settings with a share of liars.

    Attributes:
        setting: the paper's.
        rate: the share of liars.
        chosen: what the user chose.
    """

    setting: Setting
    rate: float
    chosen: TableSettings

    def cell(self, block: str, row: str, column: str, *, known: str | None = None, **changed: Any) -> Cell:
        """A cell whose experiment differs from the paper's settings in what is changed.

        Args:
            known: the rule of which the paper says what it reaches against the attack `column`.

        Raises:
            OstrakonError: a setting cannot be used.
        """
        values = {**self._common(), "attack": column, **changed}
        measured = None if known is None or self.chosen.task else paper(self.setting).get((self.rate, known, column))
        return Cell(block, row, column, build(Experiment, values, source=SOURCE), measured)

    def _common(self) -> dict[str, Any]:
        chosen = self.chosen
        return {
            "task": chosen.task or DATA[self.setting][0],
            "data": chosen.data,
            "options": self._options() if self.setting == "heterogeneous" else None,
            "workers": chosen.workers,
            "byzantine": int(self.rate * chosen.workers + 1e-9),  # 3, 7 and 14 of 35
            "vote": chosen.vote,
            "vote_batch": chosen.vote_batch,
            "rounds": chosen.rounds,
            "seed": 1,
            "device": chosen.device,
        }

    def _options(self) -> dict[str, Any]:
        task = self.chosen.task or DATA[self.setting][0]
        if not takes(task, "partition"):
            raise OstrakonError(
                f"task {task} cannot be partitioned by classes, as a heterogeneous table needs: use "
                "femnist, cifar10 or a task of your own with an option `partition`"
            )
        return {"partition": f"dirichlet(alpha=0.1,total={self.chosen.total:g})"}


def rates(default: Iterable[float], chosen: TableSettings) -> list[float]:
    """The shares of liars that the user chose, or the default.

    Raises:
        OstrakonError: one is no such share.
    """
    try:
        found = [float(rate) for rate in chosen.chosen("rates", map(str, default))]
    except ValueError:
        found = [-1.0]
    if not all(0 <= rate < 0.5 for rate in found):
        raise OstrakonError(f"RATES={chosen.rates!r} cannot be used: give shares from 0 to below 0.5, as in 0.1;0.4")
    return found
