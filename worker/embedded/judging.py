"""From two candidates to a ballot, by whatever a training loop goes by."""

import math
import random
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch

from ostrakon.common.algorithm import Step, preference
from ostrakon.common.choice import Ballot, Choice
from ostrakon.common.criteria import nearness
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import Vector
from ostrakon.worker.embedded.model import LocalModel

Loss = Callable[..., Any]
"""Gives the loss of the model that is being tried, anything that `float` takes."""

Criterion = Literal["inner", "outer", "proximity"]
"""Inner or Outer unseen, or the candidate whose aggregate is nearer to the momentum that was sent."""


def check_criterion(by: Loss | Criterion) -> None:
    """Refuse what nobody can go by.

    Raises:
        OstrakonError: saying what it can be.
    """
    if not callable(by) and by not in get_args(Criterion):
        raise OstrakonError(f"vote({by!r}) means nothing: give a function, or one of {', '.join(get_args(Criterion))}")


def ballot_by_losses(model: LocalModel, by: Loss, inner: Vector, outer: Vector) -> Ballot:
    """Try both candidates, with the same random numbers; the smaller loss wins, and what is not finite loses.

    Raises:
        OstrakonError: the function gives no number.
    """
    draws = _Draws()
    inner_loss = _loss(model, by, inner)
    draws.again()
    outer_loss = _loss(model, by, outer)
    prefers_outer = preference(torch.tensor(inner_loss).double(), torch.tensor(outer_loss).double())
    return Ballot("outer" if prefers_outer else "inner", inner_loss, outer_loss)


def ballot_unseen(
    by: Criterion, sent: Vector | None, theta: Vector, taken: Step, inner: Vector, outer: Vector
) -> Ballot:
    """Choose without a loss; `sent` is this round's momentum, None where there was none: that is a vote for Inner."""
    choice: Choice = "inner" if by == "proximity" else by
    if by == "proximity" and sent is not None:
        m, base, one, other = (torch.from_numpy(vector) for vector in (sent, theta, inner, outer))
        choice = "outer" if nearness(m, base, one, other, taken) < 0 else "inner"
    return Ballot(choice, math.nan, math.nan)


def _loss(model: LocalModel, by: Loss, theta: Vector) -> float:
    with model.trying(theta) as arguments:
        found = by(*arguments)
    try:
        return float(found)
    except (TypeError, ValueError):
        raise OstrakonError(
            f"the function given to vote returned a {type(found).__name__}: expected the candidate's loss, one number"
        ) from None


class _Draws:
    """The random numbers that come next, of the generators that everybody uses."""

    def __init__(self) -> None:
        self._torch, self._numpy, self._python = torch.get_rng_state(), np.random.get_state(), random.getstate()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def again(self) -> None:
        """Let the same ones come once more."""
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
