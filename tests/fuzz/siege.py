"""A run of three honest workers and two that lie, for fuzzing: what it has to be before, meanwhile and after."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.certificates import issue
from protos.ostrakon.v1 import parameter_server_pb2 as pb
from server.audit import audit
from tests.cluster import Cluster, Process, wait_for

MIB = 1 << 20


@contextmanager
def under_siege(folder: Path) -> Iterator[Cluster]:
    """A run whose honest workers commit rounds meanwhile; checked when the block ends."""
    run = Cluster(folder, workers=5, f=2, rounds=10**9, grace_floor=0.5, absent_after=1, upload_timeout=0.5)
    issue(run.certificates, "worker", "w98")
    issue(run.certificates, "operator", "operator")
    try:
        server = run.server()
        wait_for(lambda: "serving" in server.text, "the server")
        run.worker("w02", fault="slow(seconds=0.1)")  # so that there is time to say something in a round
        honest = [run.worker(name) for name in run.roster[3:]]
        wait_for(lambda: len(run.entries()) >= 2, "two rounds before")
        before = _status(run)
        yield run
        meanwhile = _status(run)
        assert meanwhile.committed.head.round > before.committed.head.round
        wait_for(lambda: _status(run).committed.head.round > meanwhile.committed.head.round + 2, "rounds afterwards")
        after = _status(run)
        assert after.peak_bytes - before.peak_bytes < 64 * MIB, (before.peak_bytes, after.peak_bytes)
        assert "internal error" not in {count.reason for count in after.refused}
        assert all(process.alive for process in (server, *honest)), [process.text for process in (server, *honest)]
        _check_log(server)
    finally:
        run.stop()
    audit(run.run)


def _status(run: Cluster) -> pb.StatusResponse:
    found = run.status()
    assert found is not None, "the server does not answer"
    return found


def _check_log(server: Process) -> None:
    bad = re.findall(r".*(?:Traceback|level=error|a call failed|Exception|never retrieved).*", server.text)
    assert not bad, bad[:5]
