"""Many workers in one process, which compute nothing: each a session of its own over a connection of its own."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import uvloop

from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Ballot
from ostrakon.common.clock import MonotonicClock
from ostrakon.common.runtime import allow_open_files, prepare, run_to_exit, start_log
from ostrakon.common.settings import read
from ostrakon.common.wire import Vector
from ostrakon.worker.testbed.settings import WorkerFile
from ostrakon.worker.training import Momentum

T = TypeVar("T")

_FILES_EACH = 4  # that a session may have open


class Idle:
    """Sends the same vector in every round, and votes for Inner."""

    def __init__(self, vector: Vector) -> None:
        self._momentum = Momentum(vector, 0.0, True)

    def begin(self, position: int, workers: int) -> None:
        """Nothing: there are no examples."""

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        """The vector."""
        return self._momentum

    def prepare(self, round: int, base: str, theta: Vector, taken: Step) -> None:
        """Nothing."""

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        """Inner."""
        return Ballot("inner", 0.0, 0.0)


def main(config: Path, log_file: Path | None) -> None:
    """Take part as every worker whose settings lie in a folder."""
    start_log(log_file)
    run_to_exit(lambda: _work(config), log_file)


def _work(folder: Path) -> None:
    prepare(1)
    workers = [read(WorkerFile, path) for path in sorted(folder.glob("*.toml"))]
    allow_open_files(_FILES_EACH * len(workers))
    uvloop.run(_take_part(workers))


async def _take_part(workers: list[WorkerFile]) -> None:
    from ostrakon.worker.connection import Connection  # gRPC starts here
    from ostrakon.worker.session import Session

    d = int((workers[0].options or {})["size"])
    common = np.random.default_rng(1).standard_normal(d, dtype=np.float32)
    clock = MonotonicClock()
    sessions = []
    for number, settings in enumerate(workers):
        # Apart enough that no two are one vector: there is something to vote on.
        learner = Idle(common * np.float32(1e-3 * (1 + number / len(workers))))
        connection = Connection(settings.server, "worker", tls=settings.tls)
        sessions.append(Session(settings.built_for, d, learner, connection, clock, offload=_here))
    await asyncio.gather(*(session.take_part() for session in sessions))


async def _here(function: Callable[..., T], *arguments: object) -> T:
    return function(*arguments)
