"""What a table or a figure is made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.tables.paper import Known

Kind = Literal["table", "curves", "curves with deviations"]
"""The last accuracy of each cell, or its accuracy over the rounds, with standard deviations or without."""


@dataclass(frozen=True)
class Cell:
    """What one rule, or one way to vote, reaches against one attack.

    Attributes:
        block: the part of the plan that it stands in.
        row, column: its place there.
        experiment: its settings, with the seed 1.
        paper: what the paper measured there, if it did.
    """

    block: str
    row: str
    column: str
    experiment: Experiment
    paper: Known | None = None

    def with_seed(self, seed: int) -> Experiment:
        """The experiment of one of its seeds."""
        return self.experiment.model_copy(update={"seed": seed})


@dataclass(frozen=True)
class Plan:
    """A table or a figure before it is run.

    Attributes:
        name: as users write it, `table1`.
        title: what it shows.
        kind: what of each cell is shown.
        corner: what the rows are.
        cells: block by block, row by row.
    """

    name: str
    title: str
    kind: Kind
    corner: str
    cells: tuple[Cell, ...]

    def blocks(self) -> Iterator[tuple[str, tuple[Cell, ...]]]:
        """The cells of each block."""
        for block in dict.fromkeys(cell.block for cell in self.cells):
            yield block, tuple(cell for cell in self.cells if cell.block == block)
