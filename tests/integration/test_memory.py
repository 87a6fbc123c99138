"""The server's memory is bounded by n and d alone (I8), and so is what a round moves."""

import asyncio
import re
from collections.abc import Callable

import numpy as np
import pytest

from ostrakon.common.model_file import write_model
from ostrakon.common.reasons import Reason
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker import connection
from tests.harness.cluster import Cluster, wait_for
from tests.harness.driven_worker import DrivenWorker, random_vector, refusal

MIB = 1 << 20
N, F, ROUNDS = 5, 2, 2


async def play(cluster: Cluster, d: int) -> tuple[int, int]:
    """Every member does its part in every round; returns peak memory and traffic of the server."""
    members = [DrivenWorker(cluster, name) for name in cluster.roster]
    observer = cluster.observer()
    all_have = asyncio.Barrier(N)  # who asks when the round is decided already is sent no candidates

    async def take_part(member: DrivenWorker, seed: int) -> None:
        await member.join(d=d)
        for round in range(ROUNDS):
            await member.receive(after=round)
            await member.submit(random_vector(d, N * round + seed))
            await member.candidates()
            await all_have.wait()
            committed = (await member.vote()).commit.digest
            member.held = {committed: member.held[committed]}

    async def gather() -> pb.StatusResponse:
        await asyncio.gather(*(take_part(member, seed) for seed, member in enumerate(members)))
        return await observer.status()

    status = await asyncio.wait_for(gather(), 120)
    for one in (observer, *(member.connection for member in members)):
        await one.__aexit__(None, None, None)
    assert status.committed.head.round == ROUNDS
    return status.peak_bytes, status.bytes_received + status.bytes_sent


@pytest.mark.parametrize(("rule", "vectors"), [("Mean2P", 0), pytest.param("NNM+Mean2P", N, marks=pytest.mark.matrix)])
def test_memory_and_traffic_stay_within_their_bounds_at_five_million_parameters(
    cluster: Callable[..., Cluster], rule: str, vectors: int
) -> None:
    peak, traffic, announced = {}, {}, {}
    for d in (1_000, 5_000_000):
        run = cluster(f"d{d}", workers=N, f=F, rounds=ROUNDS, rule=rule, gamma=0.01, linger=60.0)
        write_model(run.initial, np.zeros(d, dtype=np.float32), (("weight", (d,)),), {"task": "linear"})
        server = run.server()
        wait_for(lambda server=server: "serving" in server.text, "the server")
        announced[d] = int(re.findall(r"at_most_bytes=(\d+)", server.text)[0])
        peak[d], traffic[d] = asyncio.run(play(run, d))
        run.stop()
    d = 5_000_000
    allowed = (N + 8 + vectors) * 4 * d + 8 * 12 * MIB + 24 * MIB
    assert announced[d] == allowed
    assert peak[d] - peak[1_000] <= allowed
    # theta_0 reaches everybody once; then 3d a worker and round.
    assert traffic[d] <= N * (ROUNDS * 3.01 + 1) * 4 * d
    print(f"{(peak[d] - peak[1_000]) / MIB:.0f} MiB of {allowed / MIB:.0f} MiB allowed")


def test_a_reader_that_stops_reading_loses_its_stream_when_the_round_is_committed(
    cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a slow machine gRPC would take a fast line for a long one, and send it all ahead of being read.
    monkeypatch.setattr(connection, "CHANNEL_OPTIONS", (*connection.CHANNEL_OPTIONS, ("grpc.http2.bdp_probe", 0)))
    d = 2_000_000  # more than the network buffers
    run = cluster(workers=N, f=F, rounds=ROUNDS, gamma=0.01, linger=60.0)
    write_model(run.initial, np.zeros(d, dtype=np.float32), (("weight", (d,)),), {"task": "linear"})
    server = run.server()
    wait_for(lambda: "serving" in server.text, "the server")

    async def scenario() -> None:
        members = [DrivenWorker(run, name) for name in run.roster]
        for seed, member in enumerate(members):
            await member.join(d=d)
            await member.receive()
            await member.submit(random_vector(d, seed))
        *others, stalled = members
        request = pb.ProposeRequest(stamp=stalled.stamp(), session=stalled.session)
        unread = stalled.connection.propose(request)
        assert (await anext(unread)).HasField("header")
        for member in others:
            await member.candidates()
        await asyncio.gather(*(member.vote() for member in others))

        async def read_on() -> None:
            async for _ in unread:
                pass

        assert await refusal(read_on()) == ("FAILED_PRECONDITION", Reason.MODEL_REPLACED)
        assert (await stalled.receive(after=1)).header.head.round == 1
        for member in members:
            await member.connection.__aexit__(None, None, None)

    asyncio.run(asyncio.wait_for(scenario(), 120))
