"""Run simulations: `python -m tests.simulation SEED [--history]`, or many: `--seeds 0-9999 --jobs 2`."""

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.history import LAST
from tests.simulation.world import World

BLOCK = 50  # seeds that a process takes at a time


def main() -> int:
    """Run what the command line says; returns the exit status, 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="run this one")
    parser.add_argument("--history", action="store_true", help="print all that happened")
    parser.add_argument("--seeds", metavar="FIRST-LAST", help="run all of these")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    if given.seeds is None:
        if given.seed is None:
            parser.error("give a SEED or --seeds FIRST-LAST")
        return play(given.seed, whole=given.history)
    first, _, last = given.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    blocks = [seeds[start : start + BLOCK] for start in range(0, len(seeds), BLOCK)]
    failed, happened = [], Counter[str]()
    with ProcessPoolExecutor(given.jobs) as pool:
        for broken, counts in pool.map(_play_all, blocks):
            failed += broken
            happened += counts
            for seed, violation in broken:
                print(f"seed {seed}: {violation}; replay: python -m tests.simulation {seed}", flush=True)
    print(f"{len(seeds)} seeds, {len(failed)} broken promises")
    for kind, count in sorted(happened.items()):
        print(f"{count:9}  {kind}")
    return 1 if failed else 0


def play(seed: int, *, whole: bool = False) -> int:
    """Run one seed, and say what happened."""
    world = World(seed)
    violation = world.run()
    if whole or violation is not None:
        print("\n".join(world.history.lines(None if whole else LAST)))
    if violation is None:
        print(f"seed {seed}: {len(world.disk.entries)} rounds, {world.loop.steps} steps: every promise was kept")
        return 0
    print(f"seed {seed}: {violation}\nreplay: python -m tests.simulation {seed}")
    return 1


def _play_all(seeds: range) -> tuple[list[tuple[int, str]], Counter[str]]:
    broken, happened = [], Counter[str]()
    for seed in seeds:
        world = World(seed)
        violation = world.run()
        happened += world.history.happened
        if violation is not None:
            broken.append((seed, str(violation)))
    return broken, happened


if __name__ == "__main__":
    sys.exit(main())
