"""What no server could compute: yardsticks of what a rule, and what a vote, could reach at best."""

from functools import partial

import torch
from torch import Tensor

from ostrakon.common.aggregation import Aggregate, Cost, Rule, rule, side_by_side
from ostrakon.common.aggregation.distances import squared_distances_to
from ostrakon.common.aggregation.matrix import PlacedRows
from ostrakon.common.aggregation.means import means
from ostrakon.common.aggregation.rule import check_minority
from ostrakon.common.aggregation.side_by_side import everybody
from ostrakon.worker.attacks.moments import mean

HONEST = "Honest"
"""The rule that knows who is honest: no rule can do better than by luck."""

IDEAL = "ideal"
"""The vote of which every honest worker knows the average of the honest: no vote can do better than by luck."""


def rule_of(name: str, byzantine: int) -> Rule:
    """The rule that a user named, or the yardstick.

    Args:
        name: as in `common.aggregation.rule`, or `Honest`.
        byzantine: how many workers, the first ones, are not honest.

    Raises:
        OstrakonError: there is no such rule.
    """
    if name != HONEST:
        return rule(name)
    return Rule(
        HONEST,
        False,
        partial(_average_of_the_honest, byzantine),
        check_minority,
        None,
        Cost("O(n d)", "blocks"),
        "mean of the rows of the honest",
        "a yardstick: no server knows them",
        side_by_side=lambda x, f: everybody(x, byzantine),
    )


def _average_of_the_honest(byzantine: int, x: PlacedRows, f: int) -> tuple[Aggregate, ...]:
    rows = tuple(row for row, places in enumerate(x.places) if min(places) >= byzantine)
    (vector,) = means(x, [rows])
    return (Aggregate(vector, rows),)


def distances_to_the_honest(honest: Tensor, aggregates: Tensor) -> Tensor:
    """How far the aggregates of a round, (2, d), are from the mean of the honest vectors, (h, d): squared, (2,)."""
    return squared_distances_to(aggregates, mean(honest))


def all_distances_to_the_honest(x: Tensor, byzantine: int, aggregates: Tensor) -> Tensor:
    """The same in R rounds, of aggregates, (R, k, d), and all rows, (R, n, d): (R, k) float64, on their device."""
    centres = side_by_side.means(x, everybody(x, byzantine).sets)
    lengths: Tensor = torch.linalg.vector_norm(aggregates.double() - centres, dim=2)
    return lengths.square()
