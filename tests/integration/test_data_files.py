"""Workers that read their own data, and one whose file is missing or damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ostrakon.common.reasons import Missing
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from tests.harness.cluster import Cluster, wait_for
from tests.harness.reading_task import made

TASK = "tests.harness.reading_task:Reading"


@pytest.mark.parametrize("content", [None, b"PK\x03\x04 this is no archive"], ids=["missing", "damaged"])
def test_nobody_waits_for_data_that_cannot_be_read_and_they_are_taken_up_later(
    cluster: Callable[..., Cluster], tmp_path: Path, content: bytes | None
) -> None:
    # Neither the first round's patience nor any grace is ever over.
    run = cluster(task=TASK, rounds=1_000_000, join_timeout=3600, grace_floor=3600)
    write_initial(WorkerSettings(task=TASK), run.initial)
    server = run.server()
    path = tmp_path / "w02.npz"
    if content is not None:
        path.write_bytes(content)
    late = run.worker("w02", task=TASK, data=str(path), data_timeout=3600)
    found = wait_for(lambda: (status := run.status()) and dict(status.data_not_readable), "word of the data")
    assert "w02.npz" in found["w02"] or "archive" in found["w02"] or "zip" in found["w02"]
    assert Missing.DATA_NOT_READABLE in late.text
    for name in ("w00", "w01"):
        np.savez(tmp_path / f"{name}.npz", **made(int(name[1:])))
        run.worker(name, task=TASK, data=str(tmp_path / f"{name}.npz"))
    entries = wait_for(run.entries, "a round without w02")
    assert entries[0].missing["w02"] == Missing.DATA_NOT_READABLE
    assert Missing.DATA_NOT_READABLE in server.text

    np.savez(tmp_path / "whole.npz", **made(2))
    (tmp_path / "whole.npz").replace(path)
    wait_for(lambda: "w02" not in run.entries()[-1].missing, "a round with w02")
    assert not wait_for(run.status, "a status").data_not_readable


def test_a_worker_ends_in_the_words_of_its_data_when_they_do_not_come(
    cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    run = cluster(task=TASK)
    write_initial(WorkerSettings(task=TASK), run.initial)
    run.server()
    alone = run.worker("w02", task=TASK, data=str(tmp_path / "nothing.npz"), data_timeout=0)
    assert alone.wait() == 2
    assert alone.text.splitlines()[-1].startswith("error: task Reading: worker_data: FileNotFoundError")
    assert "nothing.npz" in alone.text.splitlines()[-1]
