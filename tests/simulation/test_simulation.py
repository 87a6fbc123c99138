"""A few hundred simulated runs: nothing that is promised is broken, and everything that can happen has happened."""

from collections import Counter

import pytest

from tests.simulation.world import World

# What a killed process was about to do is never done, of course.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")

BLOCKS, SIZE = 10, 30

# What has to happen somewhere in SIZE * BLOCKS runs: a simulation that has become tame shows nothing.
HAPPENS = {
    "message late",
    "models cut",
    "upload cut",
    "request lost",
    "reply lost",
    "partition",
    "partition, one way up",
    "partition, one way down",
    "server cut off",
    "slow network",
    "server killed",
    "killed between file and entry",
    "killed between entry and announcement",
    "killed while a file is written",
    "killed after a file is written",
    "killed after drawing a term",
    "server stopped and taken over",
    "server taken over while it serves",
    "old server woke",
    "disk full",
    "ledger cannot be read",
    "unknown, committed",
    "unknown, committed later",
    "unknown, not committed",
    "liar submits another vector",
    "liar votes twice",
    "liar votes in another round",
    "liar sends a wrong stamp",
    "liar sends garbage",
    "liar says nothing",
    "thin round",
    "tie",
    "vote",
    "outer wins a vote",
}


def runs(seeds: range) -> Counter[str]:
    """Everything that happened in these runs, in none of which a promise is broken."""
    happened: Counter[str] = Counter()
    for seed in seeds:
        world = World(seed)
        violation = world.run()
        assert violation is None, (
            "\n".join(world.history.lines(200))
            + f"\nseed {seed}: {violation}\nreplay: .venv/bin/python -m tests.simulation {seed}"
        )
        happened += world.history.happened
    return happened


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_happens_every_promise_is_kept(block: int) -> None:
    runs(range(SIZE * block, SIZE * (block + 1)))


def test_everything_that_can_happen_has_happened() -> None:
    happened = runs(range(SIZE * BLOCKS, 2 * SIZE * BLOCKS))
    assert HAPPENS - {kind for kind, count in happened.items() if count} == set()


@pytest.mark.parametrize("seed", [3, 77, 202])
def test_one_seed_is_one_history(seed: int) -> None:
    first, second = World(seed), World(seed)
    assert (first.run(), second.run()) == (None, None)
    assert first.history.lines(None) == second.history.lines(None)
    assert len(first.history.lines(None)) > 100
