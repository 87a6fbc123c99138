"""The whole trial: a run for one worker, scene after scene, and what it did right and wrong."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ostrakon.common.model_file import read_model
from ostrakon.common.settings import TlsFiles
from ostrakon.deploy.conformance import endings, returns, runs, scenes
from ostrakon.deploy.conformance.companions import NAMES
from ostrakon.deploy.conformance.scene import Scene
from ostrakon.deploy.conformance.server import Server
from ostrakon.deploy.conformance.stage import NAME, Stage, Wrong
from ostrakon.deploy.conformance.worker import Worker
from ostrakon.server.settings import ServerSettings

SCENES: Sequence[Scene] = (*scenes.SCENES, *returns.SCENES, *endings.SCENES, *runs.SCENES)

MOST_ROUNDS = 1_000_000  # as many as nobody comes to: a scene ends the run

GRACE_SECONDS = 10  # by the scenes' clock


@dataclass(frozen=True)
class Verdict:
    """What came of a scene; `wrong` is empty where all was right."""

    scene: Scene
    wrong: str = ""


async def trial(
    initial: Path,
    listen: str,
    tls: TlsFiles,
    worker: Worker,
    *,
    patience: float,
    tell: Callable[[Verdict], None] = lambda verdict: None,
    chosen: Sequence[Scene] = SCENES,
) -> list[Verdict]:
    """Play all scenes to one worker.

    Args:
        initial: theta_0, whose task and model the worker is built for.
        listen: address of the server.
        tls: its certificate.
        patience: seconds that a call of the worker may take to come.
        tell: hears each verdict at once.
        chosen: the scenes.

    Raises:
        OstrakonError: the model, the address or the certificate cannot be used; the worker cannot be started; the
            server has no space left.
    """
    with TemporaryDirectory(prefix="ostrakon-conformance-") as folder:
        server = Server(_settings(initial, listen, tls, Path(folder)))
        await server.begin()
        stage = Stage(server, worker, patience)
        verdicts = []
        try:
            for scene in chosen:
                verdicts.append(await _play(scene, stage))
                tell(verdicts[-1])
        finally:
            await stage.kill()
            await server.end()
    return verdicts


async def _play(scene: Scene, stage: Stage) -> Verdict:
    playing = asyncio.ensure_future(scene.play(stage))
    failing = asyncio.create_task(stage.server.failed.wait())
    try:
        await asyncio.wait({playing, failing}, return_when=asyncio.FIRST_COMPLETED)
        if stage.server.failure is not None:
            raise stage.server.failure
        playing.result()
    except Wrong as wrong:
        # Nobody knows where such a worker stands: it is started again.
        await stage.kill()
        stage.server.put_back()
        await stage.server.restart()
        stage.server.held.forget()
        return Verdict(scene, str(wrong))
    finally:
        playing.cancel()
        failing.cancel()
    return Verdict(scene)


def _settings(initial: Path, listen: str, tls: TlsFiles, folder: Path) -> ServerSettings:
    return ServerSettings(
        task=read_model(initial).metadata.get("task", ""),
        rule="Mean2P",
        roster=(*NAMES, NAME),
        f=2,
        gamma=0.1,
        rounds=MOST_ROUNDS,
        directory=folder,
        initial=initial.absolute(),
        listen=listen,
        tls=tls,
        device="cpu",
        join_timeout=GRACE_SECONDS,
        grace=0,
        grace_floor=GRACE_SECONDS,
        absent_after=MOST_ROUNDS,
        linger=3600,
    )
