"""The round's (n, d) buffer and the rule on the device. Blocking: the coordinator calls it off the event loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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
        self._copies = Copies(self._rows, device) if device.type == "cuda" else None

    def row(self, position: int) -> Vector:
        """The memory that a member's momentum is received into, (d,) float32: it is about to be written."""
        if self._copies:
            self._copies.forget(position)
        row: Vector = self._rows[position].numpy()
        return row

    def arrived(self, position: int) -> None:
        """The row is complete. It goes to a GPU now, while others are still under way; this does not wait for it."""
        if self._copies:
            self._copies.start(position)

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
        x = moved_up(self._copies.of(positions) if self._copies else self._rows, positions)
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


class Copies:
    """Complete rows on a GPU, copied on a stream of their own."""

    def __init__(self, rows: Tensor, device: torch.device) -> None:
        """Reserves as much of the GPU's memory as the rows, (n, d) in pinned memory, take."""
        self._rows = rows
        self._copies = torch.empty(rows.shape, dtype=rows.dtype, device=device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        self._current: set[int] = set()

    def forget(self, position: int) -> None:
        """The row will change."""
        self._current.discard(position)

    def start(self, position: int) -> None:
        """Copy a row, after those before it."""
        with torch.cuda.stream(self._stream):
            self._copies[position].copy_(self._rows[position], non_blocking=True)
        self._current.add(position)

    def of(self, positions: Sequence[int]) -> Tensor:
        """The copies, (n, d), to be worked on in place: those of these rows are complete for what is called next."""
        for position in positions:
            if position not in self._current:
                self.start(position)
        self._current.clear()
        torch.cuda.current_stream(self._copies.device).wait_stream(self._stream)
        return self._copies


def moved_up(rows: Tensor, positions: Sequence[int]) -> Tensor:
    """The rows at these positions, ascending, moved to the first ones of the same memory."""
    for target, source in enumerate(positions):  # ascending, so no row is overwritten before it has moved
        if target != source:
            rows[target].copy_(rows[source])
    return rows[: len(positions)]


def _finite(vector: Vector) -> bool:
    block = CHUNK_BYTES // 4  # no (d,) temporary
    return all(bool(np.isfinite(vector[start : start + block]).all()) for start in range(0, len(vector), block))
