"""Vectors over a long line, up to a real server and down from it, beside bare TLS sockets over the same line."""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ostrakon.bench.network import floors, ours
from ostrakon.bench.network.distance import Distance, over
from ostrakon.bench.network.usage import usage
from ostrakon.common.errors import OstrakonError
from ostrakon.common.settings import read
from ostrakon.common.wire import PROTOCOL
from ostrakon.deploy.run_folder import HOST
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.connection import Connection
from ostrakon.worker.introduction import introduction
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.settings import WorkerFile
from ostrakon.worker.transport import receive_models

_ROUNDS = 6  # the first are those in which it is found out what the line is like
_COUNTED = 3


@dataclass(frozen=True)
class Transfers:
    """Seconds that one vector of d values takes, of each round; peak and promised memory of the server."""

    up: Sequence[float]
    down: Sequence[float]
    floor_up: float
    floor_down: float
    peak_bytes: int
    promised_bytes: int


def measure_distance(d: int, distance: Distance) -> Transfers:
    """Move vectors of d values over a line, there and back, as one worker of a run with a one-phase rule.

    Raises:
        OstrakonError: the server ended.
    """
    with TemporaryDirectory() as folder, chdir(folder):
        certificates = floors.certificates(Path(folder) / "certificates")
        size = 4 * d
        bare_up, bare_down = (
            floors.measure("TLS sockets", floors.Load(1, up, down, _COUNTED), *certificates, distance).seconds
            for up, down in ((size, 1), (1, size))
        )
        settings = ours.run_settings("Avg", 1, 0, d)
        with ours.running(settings, ours.nobody) as (run, (server,)):
            promised = ours.promised_bytes(server)
            (file,) = run.worker("w").parent.iterdir()
            worker = read(WorkerFile, file)
            with over(distance, int(worker.server.rpartition(":")[2])) as port:
                moved = asyncio.run(_take_part(worker, f"{HOST}:{port}", d))
            peak = usage(server.pid).peak_bytes
            ups, downs = [up for up, _ in moved], [down for _, down in moved]
            return Transfers(ups, downs, bare_up, bare_down, peak, promised)


async def _take_part(worker: WorkerFile, address: str, d: int) -> list[tuple[float, float]]:
    momentum = np.random.default_rng(1).standard_normal(d, dtype=np.float32)
    session, moved = uuid.uuid4().hex, []
    async with Connection(address, "worker", tls=worker.tls) as connection:
        request = pb.JoinRequest(stamp=pb.Stamp(protocol=PROTOCOL), session=session)
        request.MergeFrom(introduction(worker.built_for, d))
        stamp = (await connection.join(request)).stamp
        for round in range(1, _ROUNDS + 1):
            for _ in range(2):  # the first time it waits for the round before
                start = perf_counter()
                asked = pb.BroadcastRequest(stamp=stamp, after=round - 1, session=session)
                models = await receive_models(connection.broadcast(asked), d)
            down = perf_counter() - start
            stamp.round = round
            submission = Submission(stamp, session, models.header.digests[0], d, momentum)
            named = submission.digest  # takes time of the CPU, and none of the line
            start = perf_counter()
            if not (await connection.submit(submission)).uploaded:
                raise OstrakonError(f"the server had momentum {named[:12]} already")
            moved.append((perf_counter() - start, down))
    return moved


def distance_table(d: int, distance: Distance, found: Transfers) -> Table:
    """What was measured, beside the line."""
    table = Table(
        box=SIMPLE_HEAD,
        title=f"d = {d:,}; {2e3 * distance.delay:.0f} ms there and back, {8e-6 * distance.rate:.0f} Mbit/s",
        caption=f"server: {found.peak_bytes / 1e6:.0f} MB at the peak, promised {found.promised_bytes / 1e6:.0f} MB "
        "beyond an idle one",
    )
    for heading in ("", "the line alone, s", "bare TLS, s", "first, s", "later, s", "of the line", "of bare TLS"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    least = distance.seconds(4 * d)
    for what, floor, took in (("up", found.floor_up, found.up), ("down", found.floor_down, found.down)):
        later = median(took[-_COUNTED:])
        seconds = (f"{one:.2f}" for one in (least, floor, took[0], later))
        table.add_row(what, *seconds, f"{least / later:.0%}", f"{floor / later:.0%}")
    return table
