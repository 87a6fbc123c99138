"""A run of three honest workers and two that lie, for fuzzing: what it has to be before, meanwhile and after."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ostrakon.common.reasons import Reason
from ostrakon.deploy.certificates import issue
from ostrakon.server.storage.audit import audit
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.cluster import Cluster, Process, wait_for
from tests.harness.driven_worker import refused

MIB = 1 << 20


@contextmanager
def under_siege(folder: Path) -> Iterator[Cluster]:
    """A run whose honest workers commit rounds meanwhile; checked when the block ends."""
    with _some_rounds(folder) as (run, server, honest):
        before = _status(run)
        yield run
        assert _status(run).committed.head.round > before.committed.head.round
        _check(run, before, server, honest)


@contextmanager
def without_its_model(folder: Path) -> Iterator[Cluster]:
    """A run whose server has lost its model, and finds it after the block: its honest workers, who have it, sleep."""
    with _some_rounds(folder) as (run, first, honest):
        honest[0].signal(signal.SIGSTOP)  # then the others have one momentum too few, and wait with what they hold
        wait_for(lambda: {"w02", "w03", "w04"} & {*_status(run).awaited} == {"w02"}, "what the others have to send")
        for process in honest[1:]:
            process.signal(signal.SIGSTOP)
        first.kill()
        run.head_file().unlink()
        server = run.server()
        before = wait_for(run.status, "the server without its model")
        yield run
        meanwhile = _status(run)
        assert "committed model of round" in meanwhile.waiting
        assert ("w00", Reason.WRONG_DIGEST) in refused(meanwhile)
        assert Reason.INTERNAL_ERROR not in {reason for _, reason in refused(meanwhile)}
        for process in honest:
            process.signal(signal.SIGCONT)
        _check(run, before, server, honest)
        assert "received the committed model" in server.text


@contextmanager
def _some_rounds(folder: Path) -> Iterator[tuple[Cluster, Process, list[Process]]]:
    quick = {"grace_floor": 0.5, "absent_after": 1, "upload_timeout": 0.5, "join_timeout": 1.0}
    run = Cluster(folder, workers=5, f=2, rounds=10**9, **quick)
    issue(run.certificates, "worker", "w98")
    issue(run.certificates, "operator", "operator")
    try:
        server = run.server()
        wait_for(lambda: "serving" in server.text, "the server")
        slow = run.worker("w02", fault="slow(seconds=0.1)")  # so that there is time to say something in a round
        honest = [slow, *(run.worker(name) for name in run.roster[3:])]
        wait_for(lambda: run.committed() >= 2, "two rounds before")
        yield run, server, honest
    finally:
        run.stop()
    audit(run.run)


def _check(run: Cluster, before: pb.StatusResponse, server: Process, honest: list[Process]) -> None:
    """The run goes on, and nobody was harmed."""
    goal = _status(run).committed.head.round + 3
    wait_for(lambda: (status := run.status()) and status.committed.head.round >= goal, "rounds afterwards")
    after = _status(run)
    assert after.peak_bytes - before.peak_bytes < 64 * MIB, (before.peak_bytes, after.peak_bytes)
    assert Reason.INTERNAL_ERROR not in {reason for _, reason in refused(after)}
    assert all(process.alive for process in (server, *honest)), [process.text for process in (server, *honest)]
    bad = re.findall(r".*(?:Traceback|level=error|a call failed|Exception|never retrieved).*", server.text)
    assert not bad, bad[:5]


def _status(run: Cluster) -> pb.StatusResponse:
    found = run.status()
    assert found is not None, "the server does not answer"
    return found
