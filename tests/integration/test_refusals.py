"""What a lying worker sends over the network: the right status, counted and shown, and the run goes on."""

import asyncio
from collections import Counter
from collections.abc import Callable

import grpc
import numpy as np

from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.reasons import Reason
from ostrakon.common.settings import TlsFiles
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.cluster import Cluster, wait_for
from tests.harness.driven_worker import DrivenWorker, random_vector, refusal, refused

Make = Callable[..., Cluster]


async def status(cluster: Cluster) -> pb.StatusResponse:
    async with cluster.observer() as observer:
        return await observer.status()


def test_every_lie_gets_its_status_and_the_round_is_committed_without_it(cluster: Make) -> None:
    run = cluster(workers=5, f=2, rounds=2, grace_floor=60.0)
    server = run.server()
    wait_for(lambda: "serving" in server.text, "the server")

    async def scenario() -> Counter[tuple[str, str]]:
        liar, *honest = (DrivenWorker(run, name) for name in run.roster)
        for one in (liar, *honest):
            await one.join()
            await one.receive()
        d = liar.d
        good = random_vector(d, 0)

        def set_stamp(**values: object) -> Callable[[pb.MomentumPart], None]:
            return lambda part: part.stamp.MergeFrom(pb.Stamp(**values))

        def set_header(**values: object) -> Callable[[pb.MomentumPart], None]:
            return lambda part: part.header.MergeFrom(pb.MomentumHeader(**values))

        not_finite = good.copy()
        not_finite[d // 2] = np.nan
        infinite = good.copy()
        infinite[-1] = np.inf
        lies = {
            Reason.WRONG_RUN: liar.submit(good, set_stamp(run="another")),
            Reason.WRONG_PROTOCOL: liar.submit(good, set_stamp(protocol=99)),
            Reason.WRONG_TERM: liar.submit(good, set_stamp(term=7)),
            Reason.WRONG_ROUND: liar.submit(good, set_stamp(round=2)),
            Reason.WRONG_BASE: liar.submit(good, set_header(base="0" * 64)),
            "not joined or older session": liar.submit(good, set_header(session="another")),
        }
        for name, call in lies.items():
            found = await refusal(call)
            assert found[0] == "FAILED_PRECONDITION", (name, found)
        bad = {
            Reason.WRONG_LENGTH: [
                liar.submit(good, set_header(parameters=d + 1)),
                liar.submit(good[:-1], announced=good),
            ],
            Reason.TOO_MUCH_DATA: [liar.submit(np.concatenate([good, good]), announced=good)],
            Reason.WRONG_OFFSET: [liar.submit(good, chunk=lambda one: one.MergeFrom(pb.Chunk(offset=4)))],
            Reason.WRONG_DIGEST: [liar.submit(good, announced=-good)],
            Reason.NOT_FINITE: [liar.submit(not_finite), liar.submit(infinite)],
        }
        for reason, calls in bad.items():
            for call in calls:
                assert await refusal(call) == ("INVALID_ARGUMENT", reason)
        assert await refusal(liar.vote()) == ("FAILED_PRECONDITION", Reason.EARLY_VOTE)

        assert (await liar.submit(good)).uploaded
        assert not (await liar.submit(good)).uploaded  # the same bytes again are no offence
        assert await refusal(liar.submit(-good)) == ("ALREADY_EXISTS", Reason.EQUIVOCATION)
        for seed, one in enumerate(honest, 1):
            assert (await one.submit(random_vector(d, seed))).uploaded

        await liar.candidates()
        assert await refusal(liar.vote(change=lambda vote: vote.ClearField("choice"))) == (
            "INVALID_ARGUMENT",
            Reason.NO_CHOICE,
        )
        first = asyncio.create_task(liar.vote(pb.CHOICE_OUTER))
        while "w00" in (await status(run)).awaited:
            await asyncio.sleep(0)
        assert await refusal(liar.vote(pb.CHOICE_INNER)) == ("ALREADY_EXISTS", Reason.SECOND_VOTE)
        for one in honest:
            await one.candidates()
        answers = await asyncio.gather(first, *(one.vote(pb.CHOICE_INNER) for one in honest))
        assert {answer.commit.winner for answer in answers} == {pb.CHOICE_INNER}
        late = await liar.vote(pb.CHOICE_INNER)  # a vote for a committed round is told its outcome
        assert late.commit == answers[0].commit

        shown = refused(await status(run))
        for one in (liar, *honest):
            await one.connection.__aexit__(None, None, None)
        return Counter(shown)

    shown = asyncio.run(asyncio.wait_for(scenario(), 120))
    assert {worker for worker, _ in shown} == {"w00"}
    assert shown["w00", Reason.NOT_FINITE] == 2
    assert shown["w00", Reason.WRONG_LENGTH] == 2
    (entry,) = run.entries()
    assert Counter({("w00", reason): count for reason, count in entry.refused["w00"].items()}) == shown
    assert sum(vote.worker == "w00" for vote in entry.votes) == 1
    assert server.alive


def test_nobody_gets_in_without_a_certificate_or_with_garbage(cluster: Make) -> None:
    run = cluster()
    server = run.server()
    wait_for(lambda: "serving" in server.text, "the server")
    tls = run.tls("worker", "w00")
    authority = (run.certificates / "ca.pem").read_bytes()

    async def call(credentials: grpc.ChannelCredentials, method: str, message: bytes) -> grpc.StatusCode:
        async with grpc.aio.secure_channel(run.address, credentials) as channel:
            try:
                await channel.unary_unary(f"/ostrakon.v1.ParameterServer/{method}")(message, timeout=60)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    async def scenario() -> None:
        nobody = grpc.ssl_channel_credentials(authority)
        assert await call(nobody, "Join", b"") is grpc.StatusCode.UNAVAILABLE
        member = Credentials.load(TlsFiles.model_validate(tls), "worker").channel_credentials()
        for garbage in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", bytes(range(256))):
            for method in ("Join", "Vote", "Status"):
                assert await call(member, method, garbage) is grpc.StatusCode.INVALID_ARGUMENT
        assert await call(member, "Status", b"") is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(asyncio.wait_for(scenario(), 120))
    assert server.alive
