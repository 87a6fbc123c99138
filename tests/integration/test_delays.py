"""A network that delays, reorders and breaks connections between real processes: on any machine, through proxies."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest

from ostrakon.common.model_file import write_model
from ostrakon.common.reasons import Reason
from ostrakon.server.storage.audit import audit
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.submission import Submission
from tests.harness.cluster import Cluster, Process, wait_for
from tests.harness.driven_worker import DrivenWorker, random_vector, refusal, refused
from tests.harness.proxy import Proxy

BIG = "tests.network.big:Big"
MIB = 1 << 20

Make = Callable[..., Cluster]
Through = Callable[[Cluster], list[Proxy]]


@pytest.fixture
def through() -> Iterator[Through]:
    """Puts a proxy before the server for every member."""
    proxies: list[Proxy] = []

    def make(run: Cluster) -> list[Proxy]:
        made = [Proxy.to(run.address) for _ in run.roster]
        proxies.extend(made)
        return made

    yield make
    for proxy in proxies:
        proxy.close()


def serving(run: Cluster) -> Process:
    server = run.server()
    wait_for(lambda: "serving" in server.text, "the server")
    return server


def workers(run: Cluster, proxies: list[Proxy], **changes: str) -> list[Process]:
    return [run.worker(name, server=proxy.address, **changes) for name, proxy in zip(run.roster, proxies, strict=True)]


def end(*processes: Process) -> None:
    for process in processes:
        assert process.wait() == 0, process.text


def test_whose_packets_take_longer_changes_nothing_of_what_is_committed(cluster: Make, through: Through) -> None:
    chains = []
    for name, delays in (("first", (0.0, 0.05, 0.1)), ("second", (0.1, 0.0, 0.02))):
        run = cluster(name, rounds=3)
        server, proxies = serving(run), through(run)
        for proxy, delay in zip(proxies, delays, strict=True):
            proxy.up.delay, proxy.down.delay = delay, delay / 2
        end(server, *workers(run, proxies))
        chains.append([(entry.inner, entry.outer, entry.winner, entry.missing) for entry in run.entries()])
    assert chains[0] == chains[1]
    assert len(chains[0]) == 3


def test_a_handshake_may_take_seconds(cluster: Make, through: Through) -> None:
    run = cluster(rounds=1)
    server, proxies = serving(run), through(run)
    for proxy in proxies:
        proxy.up.delay = proxy.down.delay = 0.7  # two round trips and more until a connection stands
    end(server, *workers(run, proxies))
    assert run.entries()[0].missing == {}


@pytest.mark.parametrize(("direction", "at"), [("up", 2 * MIB), ("down", 2 * MIB), ("down", 6 * MIB)])
def test_a_connection_reset_inside_a_stream_costs_a_repetition(
    cluster: Make, through: Through, direction: str, at: int
) -> None:
    """In the upload of a momentum, the model to start from, and the candidates."""
    run = cluster(task=BIG, rounds=2, gamma=0.01)
    write_initial(WorkerSettings(task=BIG), run.initial)
    server, proxies = serving(run), through(run)
    for proxy in proxies:
        proxy.ways[direction].left = at
    end(server, *workers(run, proxies, task=BIG))
    assert [entry.missing for entry in run.entries()] == [{}, {}]
    assert all(proxy.ways[direction].left is None for proxy in proxies), "no connection was reset"
    audit(run.run)


def test_connections_that_break_in_their_handshake_end_no_worker(cluster: Make, through: Through) -> None:
    run = cluster(rounds=2000, grace_floor=1.0)
    server, proxies = serving(run), through(run)
    started = workers(run, proxies)
    wait_for(lambda: run.committed() >= 2, "two rounds")
    for proxy in proxies:
        proxy.refuses = True
        proxy.reset()
    # By the sixth failure in a row each has looked for a reason that lasts.
    wait_for(lambda: all(w.text.count("call failed") > 5 or not w.alive for w in started), "failures")
    committed = run.committed()
    for proxy in proxies:
        proxy.refuses = False
    wait_for(lambda: run.committed() >= committed + 2, "rounds after the resets")
    assert all(process.alive for process in (server, *started))


def test_what_arrives_late_over_an_old_connection_counts_nowhere(cluster: Make, through: Through) -> None:
    """The same calls came in time over a newer connection, which overtook the old one."""
    run = cluster(rounds=3, linger=60.0)
    server, proxies = serving(run), through(run)

    async def held(call: asyncio.Future[object]) -> None:
        """Wait until a call is in the proxy, and no further."""
        up = proxies[0].up
        async with asyncio.timeout(30):
            while up.came == up.passed:
                await asyncio.sleep(0.02)
        assert not call.done()

    async def scenario() -> None:
        run.address, direct = proxies[0].address, run.address
        overtaken = DrivenWorker(run, "w00")
        run.address = direct
        members = [DrivenWorker(run, name) for name in run.roster]
        members[0].session = overtaken.session
        observer = run.observer()

        async def gather(method: str) -> None:
            await asyncio.gather(*(getattr(member, method)() for member in members))

        await overtaken.join()
        await gather("join")
        await gather("receive")
        overtaken.round, overtaken.base = members[0].round, members[0].base

        proxies[0].hold("up")
        late_submission = asyncio.ensure_future(overtaken.submit(random_vector(170, 0)))
        await held(late_submission)
        for seed, member in enumerate(members):
            await member.submit(random_vector(170, seed))
        await gather("candidates")
        await gather("vote")
        for member in members:
            await member.receive(after=1)
        proxies[0].release()
        with pytest.raises(Exception, match="round 2 is the one being decided"):
            await late_submission
        assert refused(await observer.status()) == {("w00", Reason.WRONG_ROUND): 1}

        # A late vote is told what was committed, and is not counted in the round that is open by then.
        overtaken.round = 2
        for seed, member in enumerate(members):
            await member.submit(random_vector(170, 10 + seed))
        await gather("candidates")
        proxies[0].hold("up")
        late_vote = asyncio.ensure_future(overtaken.vote())
        await held(late_vote)
        await gather("vote")
        for member in members:
            await member.receive(after=2)
        for seed, member in enumerate(members):
            await member.submit(random_vector(170, 30 + seed))
        await gather("candidates")
        proxies[0].release()
        assert (await late_vote).commit.head.round == 2
        status = await observer.status()
        assert status.phase == pb.RUN_PHASE_VOTING
        assert list(status.awaited) == list(run.roster), "the late vote counts in round 3"
        await gather("vote")
        for connection in (observer, *(member.connection for member in (overtaken, *members))):
            await connection.__aexit__(None, None, None)

    asyncio.run(asyncio.wait_for(scenario(), 120))
    wait_for(lambda: run.committed() == 3, "three rounds")
    assert server.alive


def test_on_a_long_line_many_chunks_are_under_way_at_a_time(cluster: Make, through: Through) -> None:
    """After an upload over one connection, which has one."""
    d = 2_500_000  # 10 MB
    run = cluster(workers=1, f=0, rule="Avg", rounds=100, gamma=0.01)
    write_model(run.initial, np.zeros(d, dtype=np.float32), (("weight", (d,)),), {"task": "linear"})
    serving(run)
    (proxy,) = through(run)
    proxy.up.delay = proxy.down.delay = 0.03
    run.address = proxy.address

    async def most_under_way(call: Awaitable[object]) -> int:
        task, most = asyncio.ensure_future(call), 0
        while not task.done():
            most = max(most, proxy.up.came - proxy.up.passed)
            await asyncio.sleep(0.001)
        await task
        return most

    async def scenario() -> list[int]:
        worker, found = DrivenWorker(run, "w00"), []
        await worker.join(d=d)
        for round in range(3):
            await worker.receive(after=round)
            vector = random_vector(d, round)
            submission = Submission(worker.stamp(), worker.session, worker.base, d, vector)
            found.append(await most_under_way(worker.connection.submit(submission)))
        await worker.connection.__aexit__(None, None, None)
        return found

    one, *several = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert one < 1.2 * MIB
    assert min(several) > 3 * MIB


def test_why_an_upload_is_refused_comes_through_however_much_of_it_is_still_to_be_written(
    cluster: Make, through: Through
) -> None:
    d = 1_000_000
    run = cluster(workers=1, f=0, rule="Avg", rounds=100)
    write_model(run.initial, np.zeros(d, dtype=np.float32), (("weight", (d,)),), {"task": "linear"})
    serving(run)
    (proxy,) = through(run)
    proxy.down.delay = 0.03
    run.address = proxy.address

    async def scenario() -> None:
        worker = DrivenWorker(run, "w00")
        await worker.join(d=d)
        await worker.receive()
        worker.round += 1
        for attempt in range(10):
            submission = Submission(worker.stamp(), worker.session, worker.base, d, random_vector(d, attempt))
            assert await refusal(worker.connection.submit(submission)) == ("FAILED_PRECONDITION", Reason.WRONG_ROUND)
        await worker.connection.__aexit__(None, None, None)

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.soak
def test_a_worker_leaves_a_connection_that_no_reply_comes_through(cluster: Make, through: Through) -> None:
    run = cluster(rounds=2000, grace_floor=1.0)
    server, proxies = serving(run), through(run)
    started = workers(run, proxies)
    wait_for(lambda: run.committed() >= 2, "two rounds")
    for proxy in proxies[:2]:
        proxy.hold("down")
    wait_for(lambda: run.status().waiting, "a run that says it waits")  # type: ignore[union-attr]
    committed = run.committed()
    # TCP sees nothing wrong: that pings are not answered tells them, after 10 + 20 s at most, and they connect anew.
    wait_for(lambda: run.committed() >= committed + 2, "rounds over new connections", 45)
    assert all(process.alive for process in (server, *started))
