"""What Byzantine workers vote: pure functions, and the names that users write for them.

A vote reports the two losses as they are, whatever it is for.
"""

import math
from collections.abc import Callable

import numpy as np

from ostrakon.common.choice import Choice

ByzantineVote = Callable[[float, float, np.random.Generator], Choice | None]
"""From the losses of Inner and Outer on the worker's own mini-batch, and random numbers of this worker and round, to
what it votes; None: it does not vote."""


def larger_loss(inner_loss: float, outer_loss: float) -> Choice:
    """The candidate with the larger loss; Outer where they are equal, since a tie goes to Inner.

    A loss that is not finite is the largest. Source: the paper, section 5.

    >>> larger_loss(1.0, 2.0), larger_loss(math.nan, 2.0)
    ('outer', 'inner')
    """
    inner, outer = (loss if math.isfinite(loss) else math.inf for loss in (inner_loss, outer_loss))
    return "inner" if inner > outer else "outer"


def pivotal(inner: int, outer: int, colluders: int) -> Choice | None:
    """What all colluders vote if that changes the outcome; else None: they keep silent, and nobody learns who they are.

    Where they could bring about no more than a tie, which goes to Inner anyway, they vote for Inner: the server would
    wait for their votes, and soon no longer wait for them.

    Args:
        inner, outer: votes of the honest.
        colluders: how many can vote otherwise.

    >>> pivotal(4, 2, 1), pivotal(4, 2, 2), pivotal(4, 2, 3), pivotal(2, 4, 2)
    (None, 'inner', 'outer', 'inner')
    """
    if outer > inner:
        return "inner" if inner + colluders >= outer else None
    if outer + colluders > inner:
        return "outer"
    return "inner" if outer + colluders == inner else None


def _at_random(inner_loss: float, outer_loss: float, rng: np.random.Generator) -> Choice:
    return "inner" if rng.integers(2) else "outer"


PIVOTAL = "pivotal"
"""The name of the vote that colluders agree upon, see `pivotal`."""

VOTES: dict[str, ByzantineVote] = {
    "larger-loss": lambda inner_loss, outer_loss, rng: larger_loss(inner_loss, outer_loss),
    "inner": lambda inner_loss, outer_loss, rng: "inner",
    "outer": lambda inner_loss, outer_loss, rng: "outer",
    "random": _at_random,
    "silent": lambda inner_loss, outer_loss, rng: None,
}
