"""The round's (n, d) buffer and the rule on the device. Blocking: the coordinator calls it off the event loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ostrakon.common.aggregation import Rule
from ostrakon.common.algorithm import Step, step
from ostrakon.common.bf16 import Half, Wire, candidate, rounded
from ostrakon.common.digest import digest
from ostrakon.common.wire import CHUNK_BYTES, Vector


@dataclass(frozen=True)
class Candidate:
    """A model that may become theta_t.

    `theta`: (d,) float32; `cluster`: positions, among the rows given, of the rule's tight cluster; `aggregate`: (d,)
    bfloat16, from which workers form it where momenta and aggregates travel so.
    """

    theta: Vector
    digest: str
    cluster: tuple[int, ...]
    aggregate: Half | None = None

    @property
    def sent(self) -> Vector | Half:
        """What workers are sent of it."""
        return self.theta if self.aggregate is None else self.aggregate


class Aggregator:
    """Holds one row of d float32 values per member and turns accepted rows into candidate models."""

    def __init__(self, rule: Rule, workers: int, parameters: int, device: torch.device, wire: Wire = "float32") -> None:
        """Reserves the whole buffer, `workers` * `parameters` * 4 bytes of host memory."""
        self._rule = rule
        self._wire = wire
        self._device = device
        # Pinned, so that the copy to a GPU is one direct transfer.
        self._rows = torch.zeros((workers, parameters), dtype=torch.float32, pin_memory=device.type == "cuda")

    def row(self, position: int) -> Vector:
        """The memory that a member's momentum is received into, (d,) float32."""
        row: Vector = self._rows[position].numpy()
        return row

    def candidates(self, theta: Vector, positions: Sequence[int], f: int, taken: Step) -> tuple[Candidate | None, ...]:
        """keep * theta - gamma * F(X) for each aggregate of the rule; None for one that is not finite.

        Args:
            theta: (d,) float32, the committed model.
            positions: rows that were accepted, ascending. The other rows never enter a product, and this call
                moves rows: what was in the buffer is lost.
            f: Byzantine rows to defend against among those given.
            taken: gamma and keep of this round.

        Returns:
            One candidate for a one-phase rule, Inner and Outer for a two-phase rule.
        """
        for target, source in enumerate(positions):  # ascending, so no row is overwritten before it has moved
            if target != source:
                self._rows[target].copy_(self._rows[source])
        x = self._rows[: len(positions)].to(self._device)
        base = torch.from_numpy(theta).to(self._device)
        result: list[Candidate | None] = []
        for aggregate in self._rule.aggregate(x, f, positions):
            half: Half | None = None
            if self._wire == "bf16":
                half = rounded(aggregate.vector.cpu().numpy())
                host = candidate(theta, half, taken)
            else:
                host = step(base, aggregate.vector, taken).cpu().numpy()
            result.append(Candidate(host, digest(host), aggregate.cluster, half) if _finite(host) else None)
        return tuple(result)


def _finite(vector: Vector) -> bool:
    block = CHUNK_BYTES // 4  # no (d,) temporary
    return all(bool(np.isfinite(vector[start : start + block]).all()) for start in range(0, len(vector), block))
