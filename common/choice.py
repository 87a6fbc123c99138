"""What a worker chooses in a round, and how a run ends."""

from dataclasses import dataclass
from typing import Literal

Choice = Literal["inner", "outer"]  # which of the two candidates
Outcome = Literal["completed", "diverged"]


@dataclass(frozen=True)
class Ballot:
    """One worker's vote in one round, and the mean losses on its new mini-batch that it reports with it."""

    choice: Choice
    inner_loss: float
    outer_loss: float
