"""Servers that are killed or stopped where it hurts most: nothing that anybody was told is lost or decided twice.

The points are named in tests/harness/killed_server.py. In one process, tests/in_process/test_restart.py tries the same.
"""

import json
import random
import signal
from collections.abc import Callable

import pytest

from tests.harness.cluster import wait_for
from tests.harness.killed_server import FIRST, POINTS, Plan
from tests.harness.recorded_run import RecordedRun, stopped

Make = Callable[..., RecordedRun]


def test_a_server_killed_at_every_point_of_a_round_loses_nothing_and_changes_nothing(
    recorded_run: Make,
) -> None:
    calm = recorded_run("calm", rounds=60, observers=1)
    calm.serve()
    calm.everybody()

    run = recorded_run("killed", rounds=60, observers=1)
    run.everybody()
    points = [point for point in POINTS if point != FIRST]
    random.Random(1).shuffle(points)
    for point in (FIRST, *points):
        run.strike(Plan(point, round=run.told() + 3))
    run.serve()

    # Every momentum was sent again with the same bytes, and so every model is the same.
    assert run.finish() == calm.finish()
    assert len(run.prune()) == 2  # as many as are kept: the one killed inside a file left nothing
    assert all(json.loads(line) for line in (run.cluster.run / "evaluations.jsonl").read_text().splitlines())


ENOUGH = {"rounds": 100_000, "join_timeout": 1.0, "grace_floor": 1.0, "absent_after": 1}  # n - f are waited for


@pytest.mark.parametrize(
    "point",
    [
        *("while it collects", "before the entry"),
        *(pytest.param(other, marks=pytest.mark.matrix) for other in ("after the first file", "after both files")),
    ],
)
def test_a_stopped_server_that_was_taken_over_ends_by_itself_and_harms_nobody(recorded_run: Make, point: str) -> None:
    # The last worker stays with the old server, over a way of its own; the others are enough for the new one.
    run = recorded_run(**ENOUGH)
    old = run.serve(Plan(point, round=5, signal=signal.SIGSTOP))
    faithful = run.way(run.cluster.address)
    *others, last = run.cluster.roster
    for name in others:
        run.recorder(name)
    run.recorder(last, faithful)
    wait_for(lambda: stopped(old.pid), "the old server to stop")
    before = run.told()

    new = run.serve(Plan(take_over=True))
    run.wait_for_round(before + 5)
    assert {head.term for head in run.heads(last)} == {1}  # it waits for the stopped one
    run.wake(old)
    run.wait_for_round(run.told() + 5)
    assert new.alive
    assert {head.term for head in run.heads(last)} == {1}
    faithful.lead_to(run.proxy.target)
    wait_for(lambda: run.heads(last)[-1].term == 2, "the last worker to be told by the new server")
    run.halt()
    assert {entry.term for entry in run.cluster.entries()} == {1, 2}
    assert len(run.prune()) == 2


def test_a_stopped_server_that_is_told_to_end_after_the_run_changes_no_result(recorded_run: Make) -> None:
    run = recorded_run(rounds=60)
    old = run.serve(Plan("while it collects", round=5, signal=signal.SIGSTOP))
    for name in run.cluster.roster:
        run.recorder(name)
    wait_for(lambda: stopped(old.pid), "the old server to stop")
    run.serve(Plan(take_over=True))
    run.finish()
    names = [path for path in run.cluster.run.iterdir() if path.suffix in (".safetensors", ".jsonl")]
    results = {path: path.read_bytes() for path in names}
    assert len(results) == 3  # the last model, the average, the metrics
    old.signal(signal.SIGTERM)
    run.wake(old)
    assert {path: path.read_bytes() for path in names} == results


def test_when_everything_is_killed_at_once_the_run_goes_on(recorded_run: Make) -> None:
    run = recorded_run(rounds=150, observers=1)
    run.serve()
    run.everybody()
    for _ in range(2):
        run.wait_for_round(run.told() + 5)
        everything = [run.servers[-1], *run.recorders.values()]
        for process in everything:
            process.signal(signal.SIGKILL)
        for process in everything:
            assert process.wait() == -signal.SIGKILL
        run.check()
        run.serve()
        run.everybody()
    run.finish()
