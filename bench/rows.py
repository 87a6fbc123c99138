"""Rounds to time rules on: an ordinary one, and what liars could send to slow the server down."""

from collections.abc import Callable

import torch
from torch import Tensor


def ordinary(n: int, d: int, device: torch.device) -> Tensor:
    """n rows of d standard normal numbers, (n, d) float32: the same on every machine."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)).to(device)


def _identical(lies: Tensor, honest: Tensor) -> None:
    lies[:] = -0.1 * honest.mean(dim=0)


def _near_identical(lies: Tensor, honest: Tensor) -> None:
    lies[:] = honest.mean(dim=0) + 1e-4 * lies


def _equally_far(lies: Tensor, honest: Tensor) -> None:
    lies[:] = honest.mean(dim=0)
    for row in range(len(lies)):
        lies[row, row :: len(lies)] += 1


def _near_the_honest(lies: Tensor, honest: Tensor) -> None:
    lies *= 1e-3
    lies += honest[: len(lies)]


def _huge(lies: Tensor, honest: Tensor) -> None:
    lies[:] = 3e38 * lies.sign()


def _tiny(lies: Tensor, honest: Tensor) -> None:
    lies *= 1e-20


def _not_finite(lies: Tensor, honest: Tensor) -> None:
    lies[:, -1] = float("nan")


HOSTILE: dict[str, Callable[[Tensor, Tensor], None]] = {
    "identical": _identical,
    "near-identical": _near_identical,
    "equally far": _equally_far,
    "near the honest": _near_the_honest,
    "huge": _huge,
    "tiny": _tiny,
    "not finite": _not_finite,
}
"""Each overwrites the liars' rows, which come first, knowing the honest ones."""


def hostile(kind: str, n: int, f: int, d: int, device: torch.device) -> Tensor:
    """The ordinary rows, f of them replaced."""
    x = ordinary(n, d, device)
    HOSTILE[kind](x[:f], x[f:])
    return x
