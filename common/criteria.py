"""Which of two candidates a worker votes for (Algorithm 3, line 8), as pure mathematics of any number of votes at once.

A criterion turns the evidence of a vote into a choice: `loss` is the paper's, the others answer its noise. Networked
workers and experiments decide with these functions alone. theta~ = theta - gamma R is Inner's candidate, theta^ =
theta - gamma Q Outer's. For every criterion:

* a tie is Inner's;
* of two candidates of which only one has a finite mean loss, that one is chosen;
* where the vector that the criterion asks says nothing (NaN or infinite: too little was seen, or numbers overflowed),
  the losses decide.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from ostrakon.common.algorithm import Step, preference

_BLOCK = 1 << 22  # numbers that are widened to float64 at once; on a GPU, which fewer steps suit, 16 times as many
_CONCLUSIVE = 2.0  # standard errors


@dataclass(frozen=True)
class Evidence:
    """What is known of both candidates in each of the votes `...`, which may be of many workers and runs.

    Attributes:
        inner_losses, outer_losses: (..., m), the loss of each example of the vote's mini-batch at either candidate.
        gain: (...,), <v_i, R - Q> times any positive number, see `gain`; NaN where v_i has seen too little.
        nearness: (...,), |m_i - Q|^2 - |m_i - R|^2, likewise, see `nearness`.
    """

    inner_losses: Tensor
    outer_losses: Tensor
    gain: Tensor | float = math.nan
    nearness: Tensor | float = math.nan

    @property
    def inner_mean(self) -> Tensor:
        """(...,), the loss of Inner's candidate."""
        return self.inner_losses.mean(dim=-1)

    @property
    def outer_mean(self) -> Tensor:
        """(...,), the loss of Outer's candidate."""
        return self.outer_losses.mean(dim=-1)


@dataclass(frozen=True)
class Criterion:
    """How a worker chooses.

    Attributes:
        prefers_outer: from the evidence to (...,) bool, True for Outer.
        asks: the vector that it asks beside the losses: v_i for `gain`, m_i for `nearness`, or none.
    """

    prefers_outer: Callable[[Evidence], Tensor]
    asks: Literal["second momentum", "own momentum"] | None = None


def gain(v: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
    """gamma <v_i, R - Q> = <v_i, theta^ - theta~>: by how much more, to first order, Inner's step lowers v_i's loss.

    v_i is a second momentum, of gradients on mini-batches drawn for it alone. Since nobody is sent it, neither
    candidate holds any of its noise, as they do of m_i's; a worker that asked m_i would favour what it sent itself.

    Args:
        v: (..., d).
        inner, outer: the candidates theta~ and theta^, (d,), or (..., d) of as many dimensions as v.

    Returns:
        (...,) float64.

    >>> gain(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
    tensor([ 1., -1.], dtype=torch.float64)
    """
    return _product(v, outer - inner)


def nearness(m: Tensor, theta: Tensor, inner: Tensor, outer: Tensor, taken: Step) -> Tensor:
    """gamma^2 (|m_i - Q|^2 - |m_i - R|^2): above 0 where Inner is nearer to the worker's own momentum.

    Args:
        m: m_i, (..., d).
        theta: the model that both candidates are steps from, (d,).
        inner, outer: as of `gain`.
        taken: these steps.

    Returns:
        (...,) float64.

    >>> nearness(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([-1.0]), torch.tensor([-3.0]), Step(1.0))
    tensor(4., dtype=torch.float64)
    """
    kept = theta if taken.keep == 1 else theta * taken.keep
    # |m - Q|^2 - |m - R|^2 = <R - Q, 2 m - R - Q>: the squares themselves would cancel each other's digits.
    return _product(2 * taken.gamma * m + (inner - kept) + (outer - kept), outer - inner)


def rounds_until_heard(beta: float) -> int:
    """How many gradients v_i must hold before it decides a vote, at the start and after a restart: about 1/(1 - beta).

    Then it has 1 - 1/e of the weight that it will ever have, and averages about half as many gradients as it ever will;
    a vector of fewer is as noisy as a small mini-batch's loss.

    >>> [rounds_until_heard(beta) for beta in (0, 0.5, 0.9, 0.99)]
    [1, 2, 10, 100]
    """
    return max(1, round(1 / (1 - beta)))


def _by_loss(evidence: Evidence) -> Tensor:
    """The candidate with the smaller mean loss. Source: the paper, Algorithm 3."""
    return preference(evidence.inner_mean, evidence.outer_mean)


def _by_momentum(evidence: Evidence) -> Tensor:
    """Inner where <v_i, R - Q> is not below 0. Source: this project."""
    return _by_sign(evidence, evidence.gain)


def _mixed(evidence: Evidence) -> Tensor:
    """The losses where they are conclusive, else as `momentum`. Source: this project.

    They are where the mean of the examples' differences is more than two standard errors from 0. One example alone has
    no standard error and is never conclusive.
    """
    differences = evidence.inner_losses.double() - evidence.outer_losses.double()
    m = differences.shape[-1]
    mean = differences.mean(dim=-1)
    if m == 1:
        return _by_momentum(evidence)
    conclusive = mean.abs() > _CONCLUSIVE * (differences.var(dim=-1) / m).sqrt()
    return torch.where(conclusive, mean > 0, _by_momentum(evidence))


def _by_proximity(evidence: Evidence) -> Tensor:
    """The candidate whose aggregate is nearer to the worker's own momentum; for comparison. Source: this project."""
    return _by_sign(evidence, evidence.nearness)


def _by_sign(evidence: Evidence, margin: Tensor | float) -> Tensor:
    """Outer where `margin` is below 0, and the losses leave both candidates standing."""
    inner, outer = evidence.inner_mean, evidence.outer_mean
    margin = torch.as_tensor(margin, device=inner.device)
    speaks = margin.isfinite() & (inner.isfinite() == outer.isfinite())
    return torch.where(speaks, margin < 0, preference(inner, outer))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """<left, right> over the last dimension, summed in float64 a block at a time."""
    width = max(1, _BLOCK * (16 if left.is_cuda else 1) // left[..., 0].numel())
    blocks = zip(torch.split(left, width, dim=-1), torch.split(right, width, dim=-1), strict=True)
    products = [torch.linalg.vecdot(one.double(), other.double()) for one, other in blocks]
    return torch.stack(products).sum(dim=0)


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "loss": Criterion(_by_loss),
        "momentum": Criterion(_by_momentum, asks="second momentum"),
        "mixed": Criterion(_mixed, asks="second momentum"),
        "proximity": Criterion(_by_proximity, asks="own momentum"),
    }
)
