"""An observer that follows the committed models and measures them on the task's test data."""

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from ostrakon.common.clock import MonotonicClock
from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.json_lines import JsonLines
from ostrakon.common.lifetime import stop_event
from ostrakon.common.run_files import EVALUATIONS
from ostrakon.common.runtime import prepare
from ostrakon.common.tasks.data import test_data
from ostrakon.common.tasks.measures import ACCURACY, Measures, has_own_measures
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from ostrakon.common.tasks.rehearsal import rehearse
from ostrakon.common.wire import PROTOCOL, Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.backoff import Backoff
from ostrakon.worker.evaluator.measure import own_measures
from ostrakon.worker.introduction import introduction
from ostrakon.worker.own_data import own_data
from ostrakon.worker.part import OVERTAKEN, REJOIN, UNREACHABLE
from ostrakon.worker.sampling import place
from ostrakon.worker.settings import EvaluatorSettings
from ostrakon.worker.task_thread import TaskThread
from ostrakon.worker.transport import CallFailed, Models, receive_models

if TYPE_CHECKING:
    from ostrakon.worker.connection import Connection

log = structlog.get_logger()


def follow(settings: EvaluatorSettings) -> None:
    """Measure every so many committed models until the run is over; lines go to `evaluations.jsonl`.

    Raises:
        OstrakonError: the settings or the certificate cannot be used, or the server refuses this observer.
    """
    prepare(settings.threads)
    if settings.output is None:
        raise OstrakonError("setting output is missing: the folder that evaluations.jsonl is written to")
    thread = TaskThread()
    evaluation = thread.call(Evaluation, settings, settings.output / EVALUATIONS)
    uvloop.run(_follow(settings, evaluation, thread))


class Evaluation:
    """The task's test data, and the file that measurements are written to.

    Raises:
        OstrakonError: the task cannot be used: a batch of its test data goes through its code at once.
    """

    def __init__(self, settings: EvaluatorSettings, path: Path) -> None:
        self._seed = settings.seed
        self._task = task(settings.task, own_data(settings), settings.seed, settings.options)
        device = resolve_device(settings.device)
        self._model = FlatModel(initial_model(self._task, settings.seed), device)
        self._examples = place(test_data(self._task, settings.seed), device)
        model = self._model
        self.built_for = introduction(settings.built_for, model.parameters, model.layout, model.fixed().digest())
        rehearse(self._task, model, seed=settings.seed, test=self._examples)
        self._lines = JsonLines(path)

    def model(self, round: int, theta: Vector) -> None:
        """Measure theta_t, (d,)."""
        self._write(round, self._measure(theta))

    def average(self, round: int, theta: Vector) -> None:
        """Measure the average of theta_1..theta_t, (d,)."""
        self._write(round, self._measure(theta), "_of_average")

    def _measure(self, theta: Vector) -> Measures:
        return own_measures(self._task, self._model, theta, self._examples, seed=self._seed)

    def _write(self, round: int, found: Measures, of: str = "") -> None:
        loss, values = _finite(found.loss), {name: _finite(value) for name, value in found.values.items()}
        line: dict[str, Any] = {f"{ACCURACY}{of}": values.get(ACCURACY)}
        if has_own_measures(self._task):
            line = {f"measures{of}": values, "shares": sorted(found.shares)}
        self._lines.add({"round": round, **line, f"loss{of}": loss})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


async def _follow(settings: EvaluatorSettings, evaluation: Evaluation, thread: TaskThread) -> None:
    from ostrakon.worker.connection import Connection  # gRPC starts here, once the process is set up

    stop = stop_event(asyncio.get_running_loop())
    async with Connection(settings.server, "observer", tls=settings.tls, id=settings.id) as connection:
        follower = Follower(
            settings.evaluate_every, connection, evaluation, thread, server_timeout=settings.server_timeout
        )
        following = asyncio.create_task(follower.follow())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        following.cancel()
        await asyncio.wait({following})


class Follower:
    """Reads the committed models, one every `every` rounds, and at the end the last one and the average."""

    def __init__(
        self, every: int, connection: "Connection", evaluation: Evaluation, thread: TaskThread, *, server_timeout: float
    ) -> None:
        self._every = every
        self._connection = connection
        self._evaluation = evaluation
        self._backoff = Backoff(
            MonotonicClock(), connection.handshake_failure, asyncio.to_thread, timeout=server_timeout
        )
        self._offload = thread.offload
        self._run = ""
        self._term = 0

    async def follow(self) -> None:
        """Measure until the run is over."""
        after = 0
        while True:
            models = await self._models(after)
            over = models.header.phase in (pb.RUN_PHASE_COMPLETED, pb.RUN_PHASE_DIVERGED)
            average = await self._models(0, average=True) if over else None  # fetched first: the server waits for it
            round = models.header.head.round
            await self._offload(self._evaluation.model, round, models.vectors[models.header.digests[0]])
            if average is not None:
                await self._offload(self._evaluation.average, round, average.vectors[average.header.digests[0]])
                return
            after = round + self._every - round % self._every  # the round after it collects once that one is committed

    async def _models(self, after: int, *, average: bool = False) -> Models:
        """Ask until the server answers.

        Raises:
            OstrakonError: it refuses, and asking again would not help.
        """
        attempt = 0
        while True:
            try:
                if not self._run:
                    request = pb.JoinRequest(stamp=pb.Stamp(protocol=PROTOCOL))
                    request.MergeFrom(self._evaluation.built_for)
                    response = await self._connection.join(request)
                    self._run, self._term = response.stamp.run, response.stamp.term
                stamp = pb.Stamp(protocol=PROTOCOL, run=self._run, term=self._term)
                wanted = pb.BroadcastRequest(stamp=stamp, after=after, average=average)
                d = self._evaluation.built_for.parameters
                return await receive_models(self._connection.broadcast(wanted), d, verify=not average)
            except CallFailed as error:
                if error.reason in REJOIN:
                    self._run = ""
                elif error.reason not in OVERTAKEN and error.status not in UNREACHABLE:
                    raise OstrakonError(str(error)) from None
                await self._backoff.pause(attempt, error)
            attempt += 1
