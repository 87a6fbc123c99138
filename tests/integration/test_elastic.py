"""Workers that leave, come back or come late: the run says what it waits for, and goes on by itself."""

import signal
from collections.abc import Callable

import pytest

from ostrakon.common.reasons import Reason
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from tests.harness.cluster import Cluster, wait_for
from tests.harness.proxy import Proxy

BIG = "tests.network.big:Bigger"

Make = Callable[..., Cluster]


def committed(run: Cluster) -> int:
    return run.committed()


def waiting(run: Cluster) -> str:
    status = run.status()
    return "" if status is None else status.waiting


def test_who_comes_late_is_let_in_and_counts(cluster: Make) -> None:
    run = cluster(workers=4, f=1, rounds=100_000, grace_floor=0.5, join_timeout=0.5, absent_after=1)
    run.server()
    early = [run.worker(name) for name in run.roster[:3]]
    wait_for(lambda: committed(run) >= 5, "rounds without the fourth")
    assert all("w03" in entry.missing for entry in run.entries()[:5])
    run.worker("w03")
    wait_for(lambda: not run.entries()[-1].missing, "a round with all four")
    assert all(process.alive for process in early)


def test_below_its_quorum_a_run_says_so_commits_nothing_and_goes_on_when_workers_return(cluster: Make) -> None:
    run = cluster(workers=4, f=1, rounds=100_000, grace_floor=0.5, absent_after=1)
    server = run.server()
    workers = {name: run.worker(name) for name in run.roster}
    wait_for(lambda: committed(run) >= 3, "three rounds")

    for name in ("w02", "w03"):
        workers[name].kill()
    sentence = wait_for(lambda: waiting(run), "the run to say that it waits")
    assert "of the 3" in sentence and "w02" in sentence and "w03" in sentence
    assert "waiting" in server.text
    stopped = committed(run)

    # One of two is enough for a quorum. The run goes on by itself, and then waits for nobody.
    run.worker("w02")
    wait_for(lambda: committed(run) >= stopped + 30, "rounds after one has returned")
    assert waiting(run) == ""
    entries = run.entries()
    assert [entry.round for entry in entries] == list(range(1, len(entries) + 1))
    run.worker("w03")
    wait_for(lambda: not run.entries()[-1].missing, "a round with all four")


def test_members_that_are_absent_for_several_rounds_cost_no_waiting(cluster: Make) -> None:
    patience = 8.0
    run = cluster(workers=4, f=1, rounds=100_000, grace_floor=patience, absent_after=1)
    run.server()
    workers = {name: run.worker(name) for name in run.roster}
    wait_for(lambda: committed(run) >= 3, "three rounds")
    workers["w03"].kill()
    wait_for(lambda: "w03" in run.entries()[-1].missing, "a round without w03")
    before = committed(run)
    wait_for(lambda: committed(run) >= before + 30, "rounds without w03")
    slow = [entry.round for entry in run.entries() if entry.seconds >= patience]
    assert len(slow) <= 2, slow  # the round in which it died, and at most the one whose vote it missed as well
    absent = run.status()
    assert absent is not None and list(absent.absent) == ["w03"]


def test_workers_leave_and_come_back_in_turn_and_no_round_is_lost(cluster: Make) -> None:
    run = cluster(workers=5, f=2, rounds=100_000, grace_floor=0.5, absent_after=1)
    server = run.server()
    workers = {name: run.worker(name) for name in run.roster}
    for name in run.roster:
        before = committed(run)
        wait_for(lambda before=before: committed(run) >= before + 3, "rounds with everybody")
        workers[name].kill()
        wait_for(lambda name=name: name in run.entries()[-1].missing, f"a round without {name}")
        workers[name] = run.worker(name)
        wait_for(lambda name=name: name not in run.entries()[-1].missing, f"a round with {name} again")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    entries = run.entries()
    assert [entry.round for entry in entries] == list(range(1, len(entries) + 1))
    # Who comes back may be too late for the round that is under way, and who was killed may have been in an upload.
    reasons = {reason for entry in entries for refused in entry.refused.values() for reason in refused}
    assert reasons <= {
        Reason.LATE_SUBMISSION,
        Reason.WRONG_ROUND,
        Reason.WRONG_BASE,
        Reason.NO_HEADER,
        Reason.WRONG_LENGTH,
    }


def test_a_slow_worker_that_was_away_is_waited_for_again(cluster: Make) -> None:
    # The others take a fraction of the half second that this one takes: without waiting it would be late for ever.
    run = cluster(workers=4, f=1, rounds=100_000, grace_floor=4.0, absent_after=1)
    run.server()
    for name in run.roster[1:]:
        run.worker(name)
    slow = run.worker("w00", fault="slow(seconds=0.5)")
    wait_for(lambda: committed(run) >= 2, "two rounds")
    assert not any(entry.missing for entry in run.entries()[:2])
    slow.kill()
    wait_for(lambda: run.entries()[-1].missing, "a round without it")
    before = committed(run)
    wait_for(lambda: committed(run) >= before + 3, "rounds without it")
    run.worker("w00", fault="slow(seconds=0.5)")
    wait_for(lambda: not run.entries()[-1].missing, "a round with it again")
    before = committed(run)
    wait_for(lambda: committed(run) >= before + 3, "rounds with it")
    assert not any(entry.missing for entry in run.entries()[before : before + 3])


@pytest.mark.slow
def test_a_worker_that_was_away_comes_back_over_a_line_on_which_the_model_takes_longer_than_a_round(
    cluster: Make,
) -> None:
    run = cluster(workers=4, f=1, rounds=100_000, grace_floor=10.0, absent_after=1, task=BIG, gamma=0.01)
    write_initial(WorkerSettings(task=BIG), run.initial)
    run.server()
    for name in run.roster[1:]:
        run.worker(name, task=BIG)
    proxy = Proxy.to(run.address)
    proxy.down.rate = 4e6  # three seconds for the model
    try:
        slow = run.worker("w00", task=BIG, server=proxy.address)
        wait_for(lambda: committed(run) >= 1, "a round")
        slow.kill()
        wait_for(lambda: run.entries()[-1].missing, "a round without it")
        before = committed(run)
        wait_for(lambda: committed(run) >= before + 3, "rounds without it")
        back = run.worker("w00", task=BIG, server=proxy.address)
        wait_for(lambda: not run.entries()[-1].missing, "a round with it again")
    finally:
        proxy.close()
    assert "the next model was committed" in back.text, back.text
