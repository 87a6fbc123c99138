"""Algorithm 3 (2PRASHB) in one room, as pure mathematics: beside the paper it reads from top to bottom.

Server, worker, audit and experiments compute with these functions and with the rules in `common.aggregation`, which are
lines 4 (Inner and Outer). Who waits for whom, and what is durable when, is elsewhere: `server.core.round`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ostrakon.common.choice import Choice

if TYPE_CHECKING:
    from torch import Tensor


def momentum(previous: "Tensor", gradient: "Tensor", beta: float) -> "Tensor":
    """Line 3 (Algorithm 1, line 6): m_t = beta * m_{t-1} + (1 - beta) * g_t, computed in the memory of `previous`.

    Args:
        previous: m_{t-1}, (..., d); zeros before the first round.
        gradient: g_t, of the same shape.
        beta: momentum coefficient in [0, 1).
    """
    return previous.mul_(beta).add_(gradient, alpha=1 - beta)


def clip(gradient: "Tensor", norm: float) -> "Tensor":
    """Gradient clipping: g * min(1, norm / |g|) in the memory of g, the norm summed in float64.

    Source: Pascanu, Mikolov & Bengio 2013.

    Args:
        gradient: g, (..., d).
        norm: the largest Euclidean norm that it may keep, positive.
    """
    import torch

    length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True, dtype=torch.float64)
    return gradient.mul_((norm / length).clamp(max=1).to(gradient.dtype))


@dataclass(frozen=True)
class Step:
    """How far a round goes: its learning rate gamma_t, and how much of theta_{t-1} weight decay leaves, 1 without."""

    gamma: float
    keep: float = 1.0


def step(theta: "Tensor", aggregate: "Tensor", taken: Step) -> "Tensor":
    """Line 5: the model to propose, keep * theta_{t-1} - gamma_t * F(X), computed in the memory of `aggregate`.

    In float32, gamma_t and keep rounded to it. Where keep is 1, as in the paper, it is theta_{t-1} - gamma_t * F(X).

    Args:
        theta: theta_{t-1}, (d,).
        aggregate: R_t = Inner(X) or Q_t = Outer(X), (d,), which nobody needs afterwards.
        taken: the same for both candidates.
    """
    import torch  # not above: round logic takes its tally from this room, and needs no torch

    if taken.keep == 1:
        return torch.sub(theta, aggregate, alpha=taken.gamma, out=aggregate)
    return aggregate.mul_(-taken.gamma).add_(theta, alpha=taken.keep)


def unopposed(inner: str | None, outer: str | None) -> Choice | None:
    """The choice between two candidates that needs no vote: only one is there, or both are one model.

    Args:
        inner, outer: the candidates' digests; None for one that is not finite, or that a one-phase rule does not make.

    Returns:
        The only choice; None where there is something to vote on, or no candidate at all.
    """
    if inner is None:
        return None if outer is None else "outer"
    return "inner" if outer is None or inner == outer else None


def preference(inner_loss: "Tensor", outer_loss: "Tensor") -> "Tensor":
    """Line 8: whether Outer's loss on the new mini-batch is the smaller one; Inner's is preferred where they are equal.

    A loss that is not finite loses against one that is. What else a worker may go by: `common.criteria`.

    Args:
        inner_loss, outer_loss: (...,), mean losses of either candidate in any number of votes.

    Returns:
        (...,) bool, True for Outer.
    """
    return _rank(outer_loss) < _rank(inner_loss)


@dataclass(frozen=True)
class Tally:
    """Votes for either candidate, and how many who could vote have not."""

    inner: int
    outer: int
    outstanding: int

    @property
    def decided(self) -> bool:
        """Whether the winner is the same whatever those say who have not voted."""
        return abs(self.inner - self.outer) > self.outstanding

    @property
    def winner(self) -> Choice:
        """Line 10: the popular vote; the paper breaks ties arbitrarily, here they go to Inner."""
        return "outer" if self.outer > self.inner else "inner"


def tally(votes: Iterable[Choice], seats: int) -> Tally:
    """Count votes, each member's once, of `seats` members that may vote."""
    counted = list(votes)
    inner = counted.count("inner")
    return Tally(inner, len(counted) - inner, seats - len(counted))


def _rank(loss: "Tensor") -> "Tensor":
    return loss.nan_to_num(math.inf, math.inf, math.inf)
