"""A full disk ends the server with a sentence, and nothing committed is lost."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.audit import audit
from tests.cluster import Cluster, wait_for

pytestmark = pytest.mark.needs_root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]).returncode:
        pytest.skip("this machine does not let root mount file systems")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_ends_the_server_with_a_sentence_and_the_run_goes_on_later(
    cluster: Callable[..., Cluster], small_disk: Path
) -> None:
    run = cluster(rounds=100_000, directory=str(small_disk / "run"))
    run.run = small_disk / "run"
    server, workers = run.server(), run.workers()
    wait_for(lambda: len(run.entries()) >= 3, "three rounds")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert server.wait() == 2, server.text
    last = server.text.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "space" in last
    assert "nothing committed is lost" in last

    filler.unlink()
    audit(run.run)
    before = len(run.entries())
    server = run.server()
    wait_for(lambda: len(run.entries()) >= before + 3, "rounds after space was freed")
    assert all(worker.alive for worker in workers)
