"""Which of two candidates workers vote for (Algorithm 3, line 8), many workers at once."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """What is known of both candidates in each of the votes `...`.

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
    """gamma <v_i, R - Q> of momenta v, (..., d), and candidates theta~ and theta^, (d,): (...,) float64."""
    return torch.mv(v, outer - inner).double()


def nearness(m: Tensor, theta: Tensor, inner: Tensor, outer: Tensor, gamma: float) -> Tensor:
    """gamma^2 (|m_i - Q|^2 - |m_i - R|^2) of momenta m, (..., d), theta and the candidates, (d,): (...,) float64."""
    difference = outer - inner
    return (2 * gamma * torch.mv(m, difference) + torch.dot(inner + outer - 2 * theta, difference)).double()


def rounds_until_heard(beta: float) -> int:
    """How many gradients v_i must hold before it decides a vote: about 1/(1 - beta)."""
    return max(1, round(1 / (1 - beta)))


def _by_loss(evidence: Evidence) -> Tensor:
    """The smaller mean loss, one that is finite before one that is not; Inner where they are equal."""
    inner, outer = (torch.where(mean.isfinite(), mean, math.inf) for mean in (evidence.inner_mean, evidence.outer_mean))
    return outer < inner


CRITERIA: Mapping[str, Criterion] = MappingProxyType({"loss": Criterion(_by_loss)})
