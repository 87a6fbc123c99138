"""A thousand rounds, a hundred kill -9 of the server and some take-overs: no commit is lost, and there is one chain.

python -m pytest -m soak tests/soak/test_kills.py -s
SOAK_SEED=7 SOAK_KILLS=300 python -m pytest -m soak tests/soak/test_kills.py -s
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.harness.cluster import Process, wait_for
from tests.harness.killed_server import FIRST, POINTS, Plan
from tests.harness.recorded_run import HELD, RecordedRun, stopped

SEED = int(os.environ.get("SOAK_SEED", random.randrange(1 << 32)))
KILLS = int(os.environ.get("SOAK_KILLS", "100"))
ROUNDS = 10 * KILLS
EVERY = 8  # kills to one take-over
FURTHEST = 12  # rounds between two blows
ANY_MOMENT = "any moment"


class Tormentor:
    """Draws where and when the servers of a run are struck, and strikes."""

    def __init__(self, run: RecordedRun, seed: int) -> None:
        self.run = run
        self.struck: Counter[tuple[str, str]] = Counter()
        self.held = 0  # take-overs that had to wait for the end of a server that was stopped inside its transaction
        self._rng = random.Random(seed)

    def kill(self) -> None:
        """Start a server that dies."""
        self._strike(signal.SIGKILL)

    def take_over(self) -> None:
        """Start a server that is stopped; another takes over, the first goes on and must end, and the other dies."""
        old = self._strike(signal.SIGSTOP)
        before = self.run.told()
        new = self.run.serve(Plan(take_over=True))
        wait_for(lambda: self.run.told() > before + 2 or not new.alive, "the successor to commit")
        if new.alive:
            self.run.wake(old)
        else:
            assert HELD in new.text, new.text
            self.held += 1
            old.kill()
            new = self.run.serve()
            self.run.wait_for_round(before + 2)
        self._at_any_moment(new, signal.SIGKILL)
        self.struck["SIGKILL", ANY_MOMENT] += 1

    def _strike(self, number: signal.Signals) -> Process:
        point = self._rng.choice([ANY_MOMENT, ANY_MOMENT, *(point for point in POINTS if point != FIRST)])
        round = self.run.told() + self._rng.randint(1, FURTHEST)
        self.struck[number.name, point] += 1
        if point != ANY_MOMENT:
            self.run.strike(Plan(point, round, number))
            return self.run.servers[-1]
        server = self.run.serve()
        self.run.wait_for_round(round)
        self._at_any_moment(server, number)
        return server

    def _at_any_moment(self, server: Process, number: signal.Signals) -> None:
        time.sleep(self._rng.uniform(0, 0.1))  # no condition to wait for: any moment is right
        server.signal(number)
        if number == signal.SIGKILL:
            assert server.wait() == -number, server.text
        else:
            wait_for(lambda: stopped(server.pid), "the server to stop")


@pytest.mark.soak
@pytest.mark.timeout(60 * KILLS)
def test_servers_that_are_killed_and_taken_over_all_the_time_leave_the_chain_of_an_undisturbed_run(
    recorded_run: Callable[..., RecordedRun],
) -> None:
    print(f"SOAK_SEED={SEED}")
    settings = {"workers": 5, "f": 2, "rounds": ROUNDS, "observers": 1}
    calm = recorded_run("calm", **settings)
    calm.serve()
    calm.everybody()
    undisturbed = calm.finish()

    run = recorded_run("killed", **settings)
    run.everybody()
    tormentor = Tormentor(run, SEED)
    kills = 0
    while kills < KILLS:
        if kills % EVERY == EVERY - 1:
            tormentor.take_over()
        else:
            tormentor.kill()
        kills = sum(count for (number, _), count in tormentor.struck.items() if number == "SIGKILL")
        assert all(process.alive for process in run.recorders.values())
    run.serve()
    print(f"struck, by round {run.told()}: {dict(sorted(tormentor.struck.items()))}, held {tormentor.held}")
    chain = run.finish()
    assert not any(entry.missing for entry in run.cluster.entries())
    assert chain == undisturbed
    assert len(run.prune()) == 2
