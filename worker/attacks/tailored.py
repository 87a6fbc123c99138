"""The attack that simulates the rule it attacks. Its vectors are those of `omniscient.py`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ostrakon.common.aggregation import Rule
from ostrakon.common.aggregation.distances import squared_distances_to
from ostrakon.common.aggregation.side_by_side import aggregates
from ostrakon.common.errors import OstrakonError
from ostrakon.worker.attacks.moments import mean

_AT_ONCE = 16
"""Trials on the rule at once: so few that their rows fit into memory."""


@dataclass(frozen=True)
class Defence:
    """What the server makes of a round's vectors: `rule` with the bound `f` on a roster of `n` workers."""

    rule: Rule
    n: int
    f: int
    at_once: bool = False
    """Whether to try many vectors on the rule at once, if it can, as is fastest on a GPU."""


def projected_gradient_ascent(
    honest: Tensor,
    corrupted: Tensor,
    defence: Defence,
    *,
    least: float = 1 / 16,
    ratio: float = 2.0,
    steps: int = 13,
) -> Tensor:
    """PGA: all send `mean(honest) + gamma * w`, `w = -sign(mean(honest))`, gamma as harmful as the rule lets it be.

    gamma goes through `least * r / sqrt(d) * ratio^k`, k from 0 to steps - 1, r the distance of the farthest honest
    vector from their mean, so that what is sent is `least * ratio^k` times as far out. Each is tried on the rule: the
    harm is `|F(X) - mean(honest)|`, against a two-phase rule the smaller one of Inner and Outer, between which the
    honest choose. Of equals the smallest gamma is sent.

    Source: the paper, appendix D.2: Shejwalkar et al. 2022 without stochastic gradient ascent. It writes
    `mean(honest) - gamma * w`, which with this w would help; its code does what is written here.

    Args:
        defence: the rule under attack, and the run's n and f. Vectors that are not among those given count as silent
            workers do at the server (with a synchronous quorum), against f.

    Raises:
        OstrakonError: the rule cannot be used with so few vectors, or the grid is none: `least` and `steps` must be
            positive, `ratio` above 1, and the last step at most 1e9 times as far out.

    >>> from ostrakon.common.aggregation import rule
    >>> honest = torch.tensor([[1.0], [2.0], [3.0]])
    >>> projected_gradient_ascent(honest, torch.tensor([[2.0]]), Defence(rule("Avg"), 4, 1))
    tensor([[-254.]])
    >>> projected_gradient_ascent(honest, torch.tensor([[2.0]]), Defence(rule("CWM"), 4, 1))
    tensor([[1.]])
    """
    if not (
        least > 0 and ratio > 1 and 1 <= steps <= 1000 and math.log(least) + steps * math.log(ratio) < math.log(1e9)
    ):
        raise OstrakonError(
            f"attack PGA cannot search a grid of {steps} steps from {least} on, each {ratio} times as far: least and "
            "steps must be positive, ratio above 1, and the last step at most 1e9"
        )
    centre = mean(honest)
    w = -centre.sign()
    reach = math.sqrt(squared_distances_to(honest, centre).max())
    unit = least * reach / math.sqrt(honest.shape[1])
    b = len(corrupted)
    # The corrupted first, as on the roster of `ostrakon up`: some rules care who is where.
    rows = torch.cat([corrupted, honest])
    f = max(0, defence.f - (defence.n - len(rows)))
    gammas = [unit * ratio**k for k in range(steps)]

    def tried(gamma: float) -> Tensor:
        rows[:b] = torch.add(centre, w, alpha=gamma)
        return rows

    worst, sent = -1.0, 0.0
    for gamma, harm in zip(gammas, _harms(defence, map(tried, gammas), f, centre), strict=True):
        if harm > worst:
            worst, sent = harm, gamma
    return torch.add(centre, w, alpha=sent).expand(b, -1)


def _harms(defence: Defence, trials: Iterator[Tensor], f: int, centre: Tensor) -> Iterator[float]:
    """The harm of the rows of each trial, (n, d), which may all be in the same memory."""
    rule = defence.rule
    if not defence.at_once or rule.side_by_side is None:
        yield from (_harm(rule, rows, f, centre) for rows in trials)
        return
    while some := [rows.clone() for rows in islice(trials, _AT_ONCE)]:
        vectors, sure = aggregates(rule.side_by_side, torch.stack(some), f)
        harms = torch.linalg.vector_norm(vectors.double() - centre, dim=2).square().amin(dim=1)
        for rows, harm, certain in zip(some, *torch.stack([harms, sure.to(harms)]).tolist(), strict=True):
            yield harm if certain else _harm(rule, rows, f, centre)


def _harm(rule: Rule, rows: Tensor, f: int, centre: Tensor) -> float:
    results = torch.stack([aggregate.vector for aggregate in rule.aggregate(rows, f)])
    return float(squared_distances_to(results, centre).min())
