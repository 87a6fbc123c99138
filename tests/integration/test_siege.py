"""A server that is beset from outside and from within goes on for the honest, in bounded memory."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np

from ostrakon.common.model_file import write_model
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.transport import CallFailed
from tests.harness.cluster import Cluster, Process, wait_for
from tests.harness.driven_worker import DrivenWorker, random_vector
from tests.harness.flood import Flood
from tests.integration.test_memory import MIB

Make = Callable[..., Cluster]

QUICK = {"join_timeout": 1.0, "grace_floor": 0.5, "absent_after": 1}  # liars are not waited for


def serving(run: Cluster) -> Process:
    server = run.server()
    wait_for(lambda: "serving" in server.text, "the server")
    return server


def goes_on(run: Cluster, rounds: int) -> None:
    before = run.committed()
    wait_for(lambda: run.committed() >= before + rounds, f"{rounds} more rounds")


def open_files(server: Process) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@contextmanager
def idle(run: Cluster, number: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections of strangers, which say this, or nothing, and stay."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, number + 500)), hard))
    host, _, port = run.address.rpartition(":")
    sockets = []
    for _ in range(number):
        sockets.append(socket.create_connection((host, int(port)), 30))
        with suppress(OSError):
            sockets[-1].sendall(says)
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_that_floods_the_server_holds_nobody_up(cluster: Make) -> None:
    run = cluster(workers=4, f=1, rounds=100_000, **QUICK)
    server = serving(run)
    honest = [run.worker(name) for name in run.roster[1:]]
    goes_on(run, 3)
    with Flood(run, "w00") as flood:
        wait_for(lambda: flood.ended > 100, "a flood")
        goes_on(run, 15)
        assert flood.alive, flood.output.read_text()
    assert server.alive and all(worker.alive for worker in honest)
    assert not {"w01", "w02", "w03"} & {worker for entry in run.entries() for worker in entry.refused}
    assert "a call failed" not in server.text


def test_a_thousand_idle_connections_keep_nobody_out(cluster: Make) -> None:
    run = cluster(workers=4, f=1, rounds=100_000, **QUICK)
    server = serving(run)
    workers = [run.worker(name) for name in run.roster[:3]]
    goes_on(run, 3)
    before = open_files(server)
    with idle(run, 1000):
        wait_for(lambda: open_files(server) > before + 500, "a server that holds them")
        goes_on(run, 5)
        late = run.worker("w03")
        wait_for(lambda: "w03" not in run.entries()[-1].missing, "a round with the worker that came last")
        assert all(worker.alive for worker in (*workers, late))
    wait_for(lambda: open_files(server) < before + 50, "a server that has let go of them")


def test_under_siege_memory_stays_within_its_bound_at_two_million_parameters(cluster: Make) -> None:
    """One member floods, one keeps uploads and readers hanging, strangers hold connections; three are honest."""
    n, f, rounds, allowed = 5, 2, 3, 0
    peak: dict[int, int] = {}
    for d in (1_000, 2_000_000):
        run = cluster(f"d{d}", workers=n, f=f, rounds=rounds, gamma=0.01, linger=30.0, **QUICK)
        write_model(run.initial, np.zeros(d, dtype=np.float32), (("weight", (d,)),), {"task": "linear"})
        server = serving(run)
        if d == 1_000:
            asyncio.run(asyncio.wait_for(play(run, d, rounds, besieged=False), 60))
        else:
            with Flood(run, "w03", d) as flood, idle(run, 300), idle(run, 100, os.urandom(200)):
                wait_for(lambda flood=flood: flood.ended > 20, "a flood")
                asyncio.run(asyncio.wait_for(play(run, d, rounds, besieged=True), 120))
                assert flood.alive, flood.output.read_text()
        status = run.status()
        assert status is not None and status.committed.head.round == rounds
        assert "a call failed" not in server.text
        peak[d], allowed = status.peak_bytes, (n + 8) * 4 * d + 8 * 12 * MIB + 24 * MIB
        run.stop()
    more = peak[2_000_000] - peak[1_000]
    print(f"{more / MIB:.0f} MiB of {allowed / MIB:.0f} MiB allowed")
    assert more <= allowed


async def play(run: Cluster, d: int, rounds: int, *, besieged: bool) -> None:
    """Three members take part; where it is besieged, w04 hangs in as many calls as it may."""
    honest = [DrivenWorker(run, name) for name in run.roster[:3]]
    hanging = DrivenWorker(run, "w04")
    hung: list[asyncio.Task[None]] = []

    async def endless(first: pb.MomentumPart) -> AsyncIterator[pb.MomentumPart]:
        yield first
        await asyncio.Event().wait()

    async def hang() -> None:
        await hanging.join(d=d)
        stamp = hanging.stamp()
        stamp.round = 1
        header = pb.MomentumHeader(base=honest[0].base, parameters=d, session=hanging.session, digest="0" * 64)
        upload = hanging.connection.submit_parts(endless(pb.MomentumPart(stamp=stamp, header=header)))
        request = pb.BroadcastRequest(stamp=stamp, session=hanging.session)
        unread = [hanging.connection.broadcast(request) for _ in range(4)]

        async def begin_to_read(stream: AsyncIterator[pb.ModelPart]) -> None:
            with suppress(CallFailed, StopAsyncIteration):
                await anext(stream)
                await asyncio.Event().wait()

        async def send() -> None:
            with suppress(CallFailed):
                await upload

        hung.extend(asyncio.create_task(one) for one in (send(), *(begin_to_read(stream) for stream in unread)))

    async def take_part(member: DrivenWorker, seed: int) -> None:
        for round in range(rounds):
            await member.receive(after=round)
            if besieged and round == 0 and member is honest[0]:
                await hang()
            await member.submit(random_vector(d, 10 * round + seed))
            committed = await commit(member)
            member.held = {name: vector for name, vector in member.held.items() if name == committed}

    for member in honest:
        await member.join(d=d)
    await asyncio.gather(*(take_part(member, seed) for seed, member in enumerate(honest)))
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)
    for member in (*honest, hanging):
        await member.connection.__aexit__(None, None, None)


def n_seed(round: int, seed: int) -> int:
    return 10 * round + seed


async def commit(member: DrivenWorker) -> str:
    """Ask for the candidates, and vote where there is something to vote on; returns the committed digest."""
    models = await member.candidates()
    if models.header.HasField("decided"):
        return models.header.decided.digest
    return (await member.vote()).commit.digest
