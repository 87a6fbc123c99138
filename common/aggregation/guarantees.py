"""What is proved of the rules, as functions of n and f. `docs/rules.md` has the proofs that are nobody else's.

lambda bounds `|F(X) - mean_S| <= lambda * max_{i,j in S} |x_i - x_j|` (Definition 2), kappa bounds
`|F(X) - mean_S|^2 <= kappa / |S| * sum_{i in S} |x_i - mean_S|^2` (Definition 4), both for EVERY set S of n-f rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

Bound = Callable[[int, int], float]
"""From n and f, 0 <= f < n/2."""


@dataclass(frozen=True)
class Guarantee:
    """How far F(X) can be from the mean of ANY n-f of the n rows."""

    resilience: Bound
    """lambda."""

    robustness: Bound
    """kappa."""

    source: str
    """Where it is proved."""


def least_resilience(n: int, f: int) -> float:
    """No rule has a smaller lambda (Farhadkhani et al. 2022)."""
    return f / (n - f)


def least_robustness(n: int, f: int) -> float:
    """No rule has a smaller kappa (Allouah et al. 2023)."""
    return f / (n - 2 * f)


def of_robustness(robustness: Bound, source: str) -> Guarantee:
    """The guarantee that a kappa implies.

    The mean over S of `|x_i - mean_S|^2` is half that of `|x_i - x_j|^2`, so that lambda is at most `sqrt(kappa / 2)`.
    """
    return Guarantee(lambda n, f: math.sqrt(robustness(n, f) / 2), robustness, source)


def of_excess(excess: Bound, source: str, resilience: Bound | None = None) -> Guarantee:
    """The guarantee of the mean of n-f rows S' for which `sum_{S' - S} |x_i - mean_S'|^2 <= A sum_S |x_i - mean_S|^2`.

    `kappa = 2 f (1 + A) (n-f) / (n-2f)^2`, as the appendix has it for MeanwO, where A is 2 (equations 15 and 16).
    """

    def robustness(n: int, f: int) -> float:
        return 2 * f * (1 + excess(n, f)) * (n - f) / (n - 2 * f) ** 2

    implied = of_robustness(robustness, source)
    return Guarantee(resilience or implied.resilience, robustness, source)


def ball(radius: float) -> Bound:
    """lambda of the mean of n-f rows within `radius` times the smallest ball that holds n-f (equations 11 to 14)."""
    return lambda n, f: (1 + math.sqrt(2) * radius) * f / (n - f)


CENTER = Guarantee(
    resilience=ball(2),
    robustness=lambda n, f: (8 * f**2 + 2 * f) * (n - f) / (n - 2 * f) ** 2,
    source="the paper, Theorem 2",
)
MEAN = of_excess(lambda n, f: 2, "the paper, Theorem 2")
MEDIAN = of_robustness(lambda n, f: 2 * (n - f) / (n - 2 * f), "docs/rules.md")
TRIMMED_MEAN = of_robustness(
    lambda n, f: 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)), "Allouah et al. 2023, Fixing by Mixing"
)
NEAR_MEDIAN = of_excess(lambda n, f: 1 + 2 * (n - f) / (n - 2 * f), "docs/rules.md")
AROUND_MEDIAN = of_excess(
    lambda n, f: 1 + 2 * (n - f) / (n - 2 * f),
    "docs/rules.md",
    resilience=lambda n, f: ball(1 + math.sqrt(2 * (n - f) / (n - 2 * f)))(n, f),
)
KRUM = of_robustness(lambda n, f: 6 * (n - f) / (n - 2 * f - 1), "docs/rules.md")
STREAM = of_excess(lambda n, f: 64 * f, "docs/rules.md", resilience=ball(4))
MINIMUM_DIAMETER = of_excess(
    lambda n, f: 2 * f, "Farhadkhani et al. 2022; kappa: docs/rules.md", resilience=lambda n, f: 2 * f / (n - f)
)
SMALLEST_EIGENVALUE = of_robustness(
    lambda n, f: 4 * f * (n - f) / (n - 2 * f) ** 2, "Allouah et al. 2023, Privacy-Robustness-Utility Trilemma"
)


def after_mixing(guarantee: Guarantee) -> Guarantee:
    """Of NNM + a rule: `kappa' = 8 f / (n-f) (kappa + 1)`."""
    return of_robustness(
        lambda n, f: 8 * f / (n - f) * (guarantee.robustness(n, f) + 1), "Allouah et al. 2023, Fixing by Mixing"
    )


def after_adaptive_clipping(guarantee: Guarantee) -> Guarantee:
    """Of ARC + a rule: `kappa' = kappa + 2 f / (n-2f)`."""
    return of_robustness(
        lambda n, f: guarantee.robustness(n, f) + 2 * f / (n - 2 * f), "Allouah et al. 2025, Adaptive Gradient Clipping"
    )
