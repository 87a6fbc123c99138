"""What Byzantine workers vote: pure functions, and the names that users write for them.

A vote reports the two losses as they are, whatever it is for.
"""

from collections.abc import Callable

import numpy as np

from ostrakon.common.choice import Choice

ByzantineVote = Callable[[Choice, np.random.Generator], Choice | None]
"""From what the worker would vote if it were honest, and random numbers of this worker and round, to what it votes;
None: it does not vote."""


def larger_loss(honest: Choice) -> Choice:
    """The candidate that the worker's own criterion finds worse: with `loss`, the one with the larger loss.

    So it is Outer where the criterion finds a tie, since a tie goes to Inner. Source: the paper, section 5.

    >>> larger_loss("inner")
    'outer'
    """
    return "inner" if honest == "outer" else "outer"


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


def _at_random(honest: Choice, rng: np.random.Generator) -> Choice:
    return "inner" if rng.integers(2) else "outer"


PIVOTAL = "pivotal"
"""The name of the vote that colluders agree upon, see `pivotal`."""

RANDOM = "random"
"""The name of the vote that needs random numbers; no other draws any."""

VOTES: dict[str, ByzantineVote] = {
    "larger-loss": lambda honest, rng: larger_loss(honest),
    "inner": lambda honest, rng: "inner",
    "outer": lambda honest, rng: "outer",
    RANDOM: _at_random,
    "silent": lambda honest, rng: None,
}
