"""The attacks by their names: what each needs to know, and how it is called."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ostrakon.common.errors import OstrakonError
from ostrakon.worker.attacks import alone, omniscient, tailored
from ostrakon.worker.attacks.tailored import Defence

Knows = Literal["alone", "colluding", "omniscient"]
"""Whether a corrupted worker needs its own vector, those of all corrupted, or those of all workers."""


@dataclass(frozen=True)
class Attack:
    """What corrupted workers send, with its parameters.

    Attributes:
        name: as a user writes it, with the parameters that were given.
        knows: what it has to be given.
        flips_labels: whether the corrupted train on `task.flip(labels)`.
        side_by_side: whether it takes the vectors of many rounds at once, (..., h, d) and (..., b, d).
        function: see `alone.py` and `omniscient.py`; it takes `rng` and `defence` if it names them.
    """

    name: str
    knows: Knows
    function: Callable[..., Tensor]
    parameters: Mapping[str, Any]
    flips_labels: bool = False
    side_by_side: bool = False

    @torch.no_grad()
    def send(
        self,
        honest: Tensor,
        corrupted: Tensor,
        *,
        rng: np.random.Generator | None = None,
        defence: Defence | None = None,
    ) -> Tensor:
        """What the b corrupted send instead of their true vectors, (b, d); nothing is written into.

        Of an attack that goes `side_by_side`, the vectors may be those of many rounds, (..., h, d) and (..., b, d).

        Args:
            honest: (h, d) floating-point, the true vectors of the honest, in roster order; may have no rows unless
                `knows` is `omniscient`.
            corrupted: (b, d), b at least 1, those of the corrupted, in roster order.
            rng: random numbers of this round, for attacks that draw.
            defence: the rule under attack, for attacks that simulate it.

        Raises:
            OstrakonError: the shapes are others, it needs honest vectors and there are none, or a random generator or a
                rule that was not given, or it cannot be used with so many of each.
        """
        dims = honest.dim()
        if (
            dims != corrupted.dim()
            or not (dims == 2 or (dims > 2 and self.side_by_side))
            or honest.shape[:-2] != corrupted.shape[:-2]
            or honest.shape[-1] != corrupted.shape[-1]
            or not corrupted.shape[-2]
        ):
            raise OstrakonError(
                f"attack {self.name} takes (h, d) and (b, d) with b at least 1, not {tuple(honest.shape)} and "
                f"{tuple(corrupted.shape)}"
            )
        if self.knows == "omniscient" and not honest.shape[-2]:
            raise OstrakonError(f"attack {self.name} needs the vectors of honest workers, and there are none")
        given = {"rng": rng, "defence": defence}
        needed = {name: given[name] for name in inspect.signature(self.function).parameters.keys() & given.keys()}
        for name, value in needed.items():
            if value is None:
                raise OstrakonError(f"attack {self.name} needs {name}=, which was not given")
        return self.function(honest, corrupted, **needed, **self.parameters)

    def rehearse(self, honest: int, corrupted: int, defence: Defence) -> None:
        """Mount the attack once, on a few random numbers.

        Raises:
            OstrakonError: it cannot be mounted by so many corrupted workers among so many honest ones, or what it would
                send is not finite.
        """
        rng = np.random.default_rng(0)
        of_honest, of_corrupted = (
            torch.from_numpy(rng.standard_normal((rows, 8), dtype=np.float32)) for rows in (honest, corrupted)
        )
        if not torch.isfinite(self.send(of_honest, of_corrupted, rng=rng, defence=defence)).all():
            raise OstrakonError(f"attack {self.name} sends numbers that float32 cannot hold: give smaller parameters")


@dataclass(frozen=True)
class Entry:
    """An attack without its parameters."""

    function: Callable[..., Tensor]
    knows: Knows
    flips_labels: bool = False
    side_by_side: bool = False

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """What users may set: the keyword-only parameters of the function."""
        signature = inspect.signature(self.function).parameters
        return {name: one for name, one in signature.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


ATTACKS: Mapping[str, Entry] = MappingProxyType(
    {
        "LF": Entry(alone.label_flipping, "alone", flips_labels=True, side_by_side=True),
        "SF": Entry(alone.sign_flipping, "alone", side_by_side=True),
        "Gauss": Entry(alone.gaussian, "alone"),
        "Omn": Entry(omniscient.omniscient, "omniscient", side_by_side=True),
        "Empire": Entry(omniscient.empire, "omniscient", side_by_side=True),
        "SV": Entry(omniscient.scaled_variance, "omniscient", side_by_side=True),
        "PGA": Entry(tailored.projected_gradient_ascent, "omniscient"),
        "ALIE": Entry(omniscient.a_little_is_enough, "omniscient", side_by_side=True),
        "IPM": Entry(omniscient.inner_product_manipulation, "omniscient", side_by_side=True),
        "Mimic": Entry(omniscient.mimic, "omniscient", side_by_side=True),
        "Min-Max": Entry(omniscient.min_max, "omniscient"),
        "Min-Sum": Entry(omniscient.min_sum, "omniscient"),
        "sneak": Entry(omniscient.sneak, "omniscient"),
        "siege": Entry(omniscient.siege, "omniscient"),
    }
)
