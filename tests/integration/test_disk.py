"""Whatever a disk does to a run ends in a sentence, loses nothing that anybody was told of, and can be mended."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ostrakon.common.model_file import read_model
from ostrakon.deploy.certificates import revoke
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.cluster import Cluster, Process, wait_for


def last_line(process: Process) -> str:
    """The sentence that a process ended with."""
    assert process.wait() == 2, process.text
    last = process.text.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in process.text
    return last


def mount(*arguments: str) -> None:
    """Mount something, or skip the test where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if subprocess.run(["mount", *arguments], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount file systems")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Callable[[], None]]]:
    """Makes a folder read-only for whoever opens something in it from then on; returns what undoes that."""
    undoing = contextlib.ExitStack()

    def make(folder: Path) -> Callable[[], None]:
        undo = undoing.enter_context(contextlib.ExitStack())
        aside = tmp_path / "read-only"  # where nobody writes: the folder is busy
        aside.mkdir()
        for source, target in ((folder, aside), (aside, folder)):
            mount("--bind", str(source), str(target))
            undo.callback(subprocess.run, ["umount", "--lazy", str(target)], check=True)
            if target is aside:
                mount("-o", "remount,bind,ro", str(aside))
        return undo.close

    with undoing:
        yield make


@pytest.mark.needs_root
def test_a_full_disk_ends_the_server_with_a_sentence_and_the_run_goes_on_later(
    cluster: Callable[..., Cluster], small_disk: Path
) -> None:
    run = cluster(rounds=100_000, directory=str(small_disk / "run"))
    run.run = small_disk / "run"
    server, workers = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 3, "three rounds")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    last = last_line(server)
    assert "space" in last
    assert "nothing committed is lost" in last

    filler.unlink()
    audit(run.run)
    before = run.committed()
    server = run.server()
    wait_for(lambda: run.committed() >= before + 3, "rounds after space was freed")
    assert all(worker.alive for worker in workers)


@pytest.mark.needs_root
def test_a_folder_that_turns_read_only_ends_the_server_with_a_sentence_at_once_and_at_every_start(
    cluster: Callable[..., Cluster], read_only: Callable[[Path], Callable[[], None]]
) -> None:
    run = cluster(rounds=100_000)
    server, workers = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 3, "three rounds")
    undo = read_only(run.run)
    last = last_line(server)
    assert "no right to write" in last and "Read-only file system" in last and "nothing committed is lost" in last
    assert "no right to write" in last_line(run.server())  # and it starts as little
    assert str(audit(run.run)).startswith("run ")  # what is there can be looked at

    undo()
    before = run.committed()
    run.server()
    wait_for(lambda: run.committed() >= before + 3, "rounds after the folder was writable")
    assert all(worker.alive for worker in workers)  # they remember nothing that is not there


@pytest.mark.needs_root
def test_a_killed_run_is_audited_and_begun_anew_from_a_read_only_copy_with_its_last_commits(
    cluster: Callable[..., Cluster], read_only: Callable[[Path], Callable[[], None]], tmp_path: Path
) -> None:
    run = cluster(rounds=100_000)
    server, _ = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 3, "three rounds")
    server.kill()
    copy = tmp_path / "copy"
    shutil.copytree(run.run, copy)
    assert (copy / "ledger.sqlite-wal").stat().st_size  # the last commits are there only
    (copy / "ledger.sqlite-shm").unlink(missing_ok=True)
    read_only(copy)
    before = sorted(path.name for path in copy.iterdir())
    report = audit(copy)
    assert report.rounds == run.committed()
    output = tmp_path / "anew.safetensors"
    command = [sys.executable, "-m", "ostrakon", "branch", str(copy), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"round {report.rounds} of run {report.run}, entry {report.head}" in done.stdout
    assert read_model(output).metadata["head"] == report.head
    assert sorted(path.name for path in copy.iterdir()) == before


@pytest.mark.parametrize("rule", ["Mean2P", "Mean1P"])
def test_a_damaged_model_comes_back_from_a_worker_over_tls_and_the_run_goes_on(
    cluster: Callable[..., Cluster], rule: str
) -> None:
    run = cluster(rounds=100_000, rule=rule, absent_after=1000, grace_floor=1.0)
    server, workers = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 3, "three rounds")
    for worker in workers[1:]:
        worker.kill()
    # The one that is left has submitted, so it holds the head; a round cannot be decided without another.

    def left_alone() -> bool:
        status = run.status()
        collecting = status is not None and status.phase == pb.RUN_PHASE_COLLECTING
        return collecting and list(status.awaited) == list(run.roster[1:])

    wait_for(left_alone, "the submission of the one that is left")
    server.kill()
    before = run.committed()
    damaged = run.head_file()
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1000] + bytes(1000))
    server = run.server()
    for name in run.roster[1:]:
        run.worker(name)
    wait_for(lambda: run.committed() >= before + 3, "rounds after the recovery")
    assert "received the committed model" in server.text
    assert workers[0].alive
    server.kill()
    assert audit(run.run).rounds >= before + 3


def taken_over(run: Cluster) -> None:
    """What another server does first."""
    ledger = SqliteLedger(run.run / "ledger.sqlite")
    ledger.draw_term("another server")
    ledger.close()


def test_a_server_that_looks_for_its_model_says_for_whom_it_waits_and_hears_who_is_revoked_or_takes_over(
    cluster: Callable[..., Cluster],
) -> None:
    run = cluster(rounds=100_000)
    server, workers = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 2, "two rounds")
    server.kill()
    for worker in workers:
        worker.kill()
    damaged = run.head_file()
    damaged.unlink()
    server = run.server()
    found = wait_for(run.status, "an answer to Status")
    assert "committed model of round" in found.waiting
    assert found.committed.head.round == run.committed()
    taken_over(run)
    assert "has taken over this run" in last_line(server)
    server = run.server()
    wait_for(run.status, "an answer to Status")
    gone, *others = run.roster
    for name in others:
        run.worker(name)  # which have begun anew, and hold nothing
    wait_for(lambda: (status := run.status()) and list(status.awaited) == [gone], "the answer of all but one")
    revoke(run.certificates, "worker", gone)
    last = last_line(server)
    assert damaged.name in last and "do not hold it" in last and "backup" in last


def test_a_run_whose_ledger_was_deleted_is_not_begun_anew(cluster: Callable[..., Cluster]) -> None:
    run = cluster(rounds=3)
    server, workers = run.server(linger=1), run.workers()
    assert [process.wait() for process in (server, *workers)] == [0] * 4
    models = sorted(path.name for path in (run.run / "models").iterdir())
    (run.run / "ledger.sqlite").unlink()
    last = last_line(run.server())
    assert "the ledger was deleted or emptied" in last
    assert sorted(path.name for path in (run.run / "models").iterdir()) == models
    assert not (run.run / "ledger.sqlite").exists()


def test_a_run_begins_anew_from_another_ones_last_model(cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    old, new = cluster("old", rounds=2), cluster("new", rounds=2)
    output = tmp_path / "anew.safetensors"
    command = [sys.executable, "-m", "ostrakon", "branch", str(old.run), "--output", str(output)]
    for run in (old, new):
        server, workers = run.server(linger=1), run.workers()
        assert [process.wait() for process in (server, *workers)] == [0] * 4
        if run is old:
            subprocess.run(command, check=True, capture_output=True)
            new.server_settings["initial"] = str(output)
    report = audit(new.run)
    assert report.parent is not None
    assert (report.parent.run, report.parent.round, report.parent.hash) == (audit(old.run).run, 2, audit(old.run).head)
    # The server's own last model says as much.
    assert read_model(old.run / "last.safetensors").metadata == read_model(output).metadata
    assert "head" not in read_model(old.run / "average.safetensors").metadata
