"""Workers for the conformance run, in this process: an honest session over gRPC and TLS, bent where a test says."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ostrakon.common.clock import Clock, MonotonicClock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.model_file import write_model
from ostrakon.common.settings import TlsFiles
from ostrakon.deploy.certificates import init, issue
from ostrakon.deploy.conformance.scene import Scene
from ostrakon.deploy.conformance.stage import NAME
from ostrakon.deploy.conformance.trial import SCENES, Verdict, trial
from ostrakon.deploy.conformance.worker import Worker
from ostrakon.worker.connection import Connection
from ostrakon.worker.session import Session
from tests.harness.cluster import free_port
from tests.harness.house import D, Pull


class Hall:
    """Where a trial is held: an address, certificates, and the model that all begin with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        init(folder)
        self.server, self.tls = issue(folder, "server", "conformance"), issue(folder, "worker", NAME)
        self.initial = folder / "initial.safetensors"
        write_model(self.initial, np.zeros(D, dtype=np.float32), (("weight", (D,)),), {"task": "pull"})

    def play(self, worker: Worker, *names: str, initial: Path | None = None, patience: float = 20) -> list[Verdict]:
        """Play the scenes of these names, all if there are none."""
        chosen: Sequence[Scene] = [scene for scene in SCENES if scene.name in names] if names else SCENES
        assert len(chosen) == len(names or SCENES)
        return asyncio.run(
            trial(initial or self.initial, self.address, self.server, worker, patience=patience, chosen=chosen)
        )


class InProcess:
    """A worker whose lives are tasks of this process."""

    first_call = 20.0

    def __init__(
        self,
        hall: Hall,
        connection: Callable[..., Connection] = Connection,
        session: Callable[..., Session] = Session,
        clock: Callable[[], Clock] = MonotonicClock,
        *,
        watched: bool = True,
    ) -> None:
        self.watched = watched
        self.lives = 0
        self._hall, self._connection, self._session, self._clock = hall, connection, session, clock
        self._life: asyncio.Task[int] | None = None

    async def start(self) -> None:
        self.lives += 1
        self._life = asyncio.create_task(self._live(self._hall.address, self._hall.tls))

    async def ended(self) -> int:
        assert self._life is not None
        if not self.watched:
            await asyncio.Event().wait()
        return await asyncio.shield(self._life)

    async def kill(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})

    async def _live(self, address: str, tls: TlsFiles) -> int:
        async with self._connection(address, "worker", tls=tls) as connection:
            session = self._session("pull", D, Pull(1.0), connection, self._clock())
            try:
                await session.take_part()
            except OstrakonError:
                return 2
            return 0


def sentences(verdicts: list[Verdict]) -> dict[str, Any]:
    """What was wrong, by scene."""
    return {verdict.scene.name: verdict.wrong for verdict in verdicts}
