"""Dozens of simulated runs: nothing that is promised is broken, and everything that can happen has happened.

`make soak` has thousands.
"""

import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from tests.simulation.history import LAST
from tests.simulation.scenario import DISK, MESSAGES, draw_scenario
from tests.simulation.world import World

BLOCKS, SIZE = 2, 30
SEEDS = 600  # that it may take until everything has happened

# Short runs in which everything happens, as `python -m tests.simulation.seeds` found them last: looked at first.
HAPPENED_IN = (475, 420, 323, 342, 57, 329, 316, 588, 16, 103)

# What has to happen somewhere in the runs: a simulation that has become tame shows nothing.
HAPPENS = {
    *MESSAGES,
    *DISK,
    # to processes and the network
    "server killed",
    "server stopped and taken over",
    "server stopped for a while",
    "server taken over while it serves",
    "old server woke",
    "fenced",
    "worker stopped",
    "partition",
    "partition, one way up",
    "partition, one way down",
    "server cut off",
    "connections broken",
    "slow network",
    "liar revoked",
    # what liars did, and heard
    "liar submits another vector",
    "liar votes twice",
    "liar votes in another round",
    "liar says nothing",
    "liar sends a wrong stamp",
    "liar sends garbage",
    "liar opens another session",
    "liar opens many calls",
    "liar reads slowly",
    "liar reports no finite gradient",
    "refused: equivocation",
    "refused: second vote",
    "refused: older session",
    "refused: already submitted",
    "refused: late submission",
    "refused: newer upload",
    "refused: early vote",
    "refused: wrong term",
    "refused: wrong round",
    "refused: too many calls",
    "refused: not on the roster",
    "refused: revoked",
    # what came of it
    "committed",
    "completed",
    "diverged",
    "model lost",
    "model came back",
    "model given up",
    "model put back",
    "liar sends another model",
    "refused: recovering",
    "thin round",
    "tie",
    "inner wins a vote",
    "outer wins a vote",
}


def happened_in(seed: int) -> Counter[str]:
    """Everything that happened in a run, in which no promise is broken."""
    world = World(seed)
    violation = world.run()
    replay = f"seed {seed}: {violation}\nreplay: python -m tests.simulation {seed}"
    assert violation is None, "\n".join([*world.history.lines(LAST), replay])
    return world.history.happened


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_happens_every_promise_is_kept(block: int) -> None:
    runs = [happened_in(seed) for seed in range(SIZE * block, SIZE * (block + 1))]
    assert any(run["committed"] for run in runs)


def test_everything_that_can_happen_has_happened() -> None:
    missing = set(HAPPENS)
    for seed in [*HAPPENED_IN, *range(SEEDS)]:
        missing -= happened_in(seed).keys()
        if not missing:
            return
    raise AssertionError(f"did not happen: {sorted(missing)}")


@pytest.mark.parametrize("seed", [77])
def test_one_seed_is_one_history_in_every_process(seed: int) -> None:
    world = World(seed)
    world.run()
    command = [sys.executable, "-m", "tests.simulation", str(seed), "--history"]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}  # sets of names have another order there
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert there.splitlines()[:-1] == world.history.lines()
    assert len(world.history.lines()) > 100


def test_one_seed_is_one_history_after_others_too() -> None:
    histories = []
    for _ in range(2):
        world = World(11)
        world.run()
        histories.append(world.history.lines())
        World(12).run()
    assert histories[0] == histories[1]


@pytest.mark.parametrize("seed", range(12))
def test_where_nothing_fails_the_chain_does_not_depend_on_the_order_of_things(seed: int) -> None:
    chains = []
    scenario = draw_scenario(Random(seed), calm=True)
    for order in range(4):
        world = World(order, scenario=scenario)
        assert world.run() is None
        assert len(world.disk.entries) == scenario.rounds
        chains.append([(entry.winner, entry.choice, entry.missing) for entry in world.disk.entries])
    assert all(chain == chains[0] for chain in chains)
