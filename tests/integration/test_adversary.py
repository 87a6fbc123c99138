"""The colluders' meeting place as a real process: what it takes, and that nobody depends on it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from ostrakon.common.identity import ADVERSARY_NAME
from ostrakon.common.settings import TlsFiles
from ostrakon.experiments import experiment, run
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.attacks import attack
from ostrakon.worker.connection import Line, open_line
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.colluding import Colluding
from ostrakon.worker.testbed.passing import Passing
from ostrakon.worker.testbed.tap import Tap
from tests.harness.cluster import PATIENCE, ROOT, Cluster, free_port, wait_for

Make = Callable[..., Cluster]

D = 300_000  # more than one chunk


class Nowhere(Passing):
    """A server that takes everything."""

    def __init__(self) -> None:
        self.submitted = 0

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        self.submitted += 1
        return pb.SubmitMomentumResponse()

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        return pb.VoteResponse()


def submission(value: float, round: int = 1) -> Submission:
    stamp = pb.Stamp(run="a run", round=round)
    return Submission(stamp, "a session", "a model", D, np.full(D, value, np.float32))


def line(bed: Cluster, name: str, adversary: str) -> Line:
    """A worker's way to the adversary."""
    return open_line(adversary, "worker", tls=TlsFiles.model_validate(bed.tls("worker", name)), name=ADVERSARY_NAME)


def test_colluders_are_told_what_follows_from_the_copies_and_from_nobody_elses(cluster: Make) -> None:
    bed = cluster(workers=5, f=2)
    address = bed.adversary(["w00", "w01"], tap_deadline=60.0)

    def colluding(name: str) -> Colluding:
        return Colluding(line(bed, name, address), 2.0)

    def tap(name: str) -> Tap:
        return Tap(Nowhere(), line(bed, name, address), 2.0)

    async def scenario() -> None:
        joined = pb.JoinResponse(rule="Mean2P", workers=5, byzantine=2)
        colluders = [colluding(name) for name in ("w00", "w01")]
        asked = [
            asyncio.create_task(colluder.instead(attack("Omn"), submission(value), joined))
            for colluder, value in zip(colluders, (1.0, 3.0), strict=True)
        ]
        # An intruder's copies are refused: only the honest are tapped, and only colluders ask.
        intruder = tap("w00")
        await intruder.submit(submission(1e6))
        honest = colluding("w02")
        assert await honest.instead(attack("Omn"), submission(1.0), joined) is None
        taps = [tap(name) for name in ("w02", "w03", "w04")]
        for tapped, value in zip(taps, (4.0, 5.0, 6.0), strict=True):
            sent = submission(value)
            await tapped.submit(sent)
            assert sent.vector is not None
            sent.vector[:] = 1e6  # as the next round is trained into it
        expected = np.full(D, 2.0 - 2 * 5 / 2 * 3.8, np.float32)
        for vector in await asyncio.gather(*asked):
            assert vector is not None
            np.testing.assert_allclose(vector, expected, rtol=1e-6)

        # What cannot be mounted is refused with a sentence, and the colluder is none the wiser.
        joined.rule = "Men2P"
        assert await colluders[0].instead(attack("PGA"), submission(1.0, round=2), joined) is None

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert bed.processes[-1].alive
    assert "did you mean Mean2P" in bed.processes[-1].text


@pytest.mark.parametrize("deaf", [False, True])
def test_an_honest_worker_never_waits_for_its_copies(cluster: Make, deaf: bool) -> None:
    bed = cluster()
    if deaf:
        address = bed.adversary(["w01"])
        bed.processes[-1].signal(signal.SIGSTOP)  # it takes connections and never answers
    else:
        address = f"127.0.0.1:{free_port()}"  # where nobody listens

    async def scenario() -> int:
        server = Nowhere()
        tap = Tap(server, line(bed, "w00", address), 1000.0)
        for round in range(1, 4):
            await tap.submit(submission(1.0, round))
            await tap.vote(pb.VoteRequest(stamp=pb.Stamp(round=round)))
        await tap.close()
        return server.submitted

    # Three copies would take 3,000 seconds.
    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == 3
    if deaf:
        bed.processes[-1].signal(signal.SIGCONT)


def test_a_dead_honest_worker_and_a_dead_adversary_stall_nobody(cluster: Make) -> None:
    bed = cluster(workers=5, f=2, rounds=100_000, grace_floor=6.0, absent_after=1)
    bed.server()
    # If the colluder waited for the dead in every round, 32 rounds would take longer than the test has patience.
    address = bed.adversary(["w00"], tap_deadline=3.0, absent_after=1)
    adversary = bed.processes[-1]
    processes = {name: bed.worker(name, tap=address) for name in bed.roster[1:]}
    bed.worker("w00", attack="Omn", adversary=address)

    def committed() -> int:
        return bed.committed()

    wait_for(lambda: committed() >= 3, "three rounds")
    processes["w04"].kill()
    before = committed()
    wait_for(lambda: committed() >= before + 32, "rounds after the death of an honest worker")
    entries = bed.entries()
    # The corrupted one was told what to send in all of them; otherwise it would have sent nothing.
    assert all("w00" not in entry.missing for entry in entries)
    adversary.kill()
    before = committed()
    wait_for(lambda: committed() >= before + 32, "rounds after the death of the adversary")
    entries = bed.entries()
    assert "w00" in entries[-1].missing
    assert all(entry.missing.keys() <= {"w00", "w04"} for entry in entries)


def test_one_seed_gives_one_chain_of_models_with_colluders_too(cluster: Make) -> None:
    chains = []
    for name in ("first", "second"):
        bed = cluster(name, workers=5, f=2, rounds=8, grace_floor=30.0)
        address = bed.adversary(["w00", "w01"], ["w00", "w01"], tap_deadline=30.0)
        server = bed.server()
        for liar in ("w00", "w01"):
            bed.worker(liar, attack="siege@0,Omn@4", byzantine_vote="pivotal", adversary=address)
        for honest in bed.roster[2:]:
            bed.worker(honest, tap=address, tap_deadline=30.0)
        assert server.wait() == 0, server.text
        chains.append([(entry.inner, entry.outer, entry.winner) for entry in bed.entries()])
    assert chains[0] == chains[1]
    same = experiment(
        **{"task": "linear", "workers": 5, "byzantine": 2, "attack": "siege@0,Omn@4", "byzantine_vote": "pivotal"},
        **{"rounds": 8, "gamma": 0.5, "batch": 16, "beta": 0.9, "vote_batch": 32},
    )
    assert [winner for _, _, winner in chains[0]] == list(run(same, exact=True).digests)


WITHOUT_A_TAP = """
import sys
from pathlib import Path
from ostrakon.worker.testbed.settings import WorkerFile
from ostrakon.common.settings import read
from ostrakon.worker.process import work
work(read(WorkerFile, Path(sys.argv[1])))
lies = ("ostrakon.worker.testbed.", "ostrakon.worker.attacks", "ostrakon.worker.adversary", "ostrakon.v1.adversary")
found = {name for name in sys.modules if name.startswith(lies)} - {"ostrakon.worker.testbed.settings"}
assert not found, found
"""


@pytest.mark.parametrize("tapped", [False, True])
def test_an_honest_worker_holds_no_lie_and_without_a_tap_tells_no_adversary(cluster: Make, tapped: bool) -> None:
    bed = cluster(rounds=3)
    server = bed.server()
    extra = {"tap": f"127.0.0.1:{free_port()}"} if tapped else {}
    config = bed.write("alone", bed.worker_settings("w00", **extra))
    worker = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_A_TAP, str(config)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    others = [bed.worker(name) for name in ("w01", "w02")]
    _, said = worker.communicate(timeout=PATIENCE)
    assert (worker.returncode == 0) == (not tapped), said
    assert ("ostrakon.worker.testbed.tap" in said) == tapped
    assert [process.wait() for process in (server, *others)] == [0, 0, 0]


def test_the_option_tap_is_the_setting(cluster: Make) -> None:
    bed = cluster(workers=5, f=2, rounds=3)
    # Without the copies of w04 each round would take the whole tap deadline, longer than the test has patience.
    address = bed.adversary(["w00"], tap_deadline=2 * PATIENCE)
    server = bed.server()
    bed.worker("w00", attack="Mimic", adversary=address, tap_deadline=2 * PATIENCE)
    for name in ("w01", "w02", "w03"):
        bed.worker(name, tap=address)
    config = bed.write("w04", bed.worker_settings("w04"))
    subprocess.run(
        [sys.executable, "-m", "ostrakon", "worker", "--config", str(config), "--tap", address],
        cwd=ROOT,
        timeout=PATIENCE,
        check=True,
        capture_output=True,
    )
    assert server.wait() == 0
