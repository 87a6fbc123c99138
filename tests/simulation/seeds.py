"""Which seeds show a bug, or that something happens, in the shortest time: `python -m tests.simulation.seeds`.

After a change of what a run consists of, the seeds that the tests look at first show something else. The tests then
search on, and are right as before, but take a minute. This takes five, and prints what to write into them.
"""

import time

import pytest

from tests.simulation.test_bugs import BUGS, OFTEN, SEEDS, world
from tests.simulation.test_simulation import HAPPENS
from tests.simulation.world import World

_QUICK = 0.1  # seconds of a run that is short enough
_ENOUGH = 12.0  # seconds to look for a shorter one


def happened_in() -> list[int]:
    """Seeds whose runs together take little time and have everything happen: the best ratio first."""
    runs: dict[int, tuple[float, set[str]]] = {}
    for seed in range(SEEDS):
        began = time.process_time()
        one = World(seed)
        one.run()
        runs[seed] = time.process_time() - began, HAPPENS & one.history.happened.keys()
    chosen, missing = [], set(HAPPENS)
    while missing:
        best = max(runs, key=lambda seed: len(runs[seed][1] & missing) / (runs[seed][0] + 0.02))
        if not runs[best][1] & missing:
            raise SystemExit(f"happens in none of {SEEDS} runs: {sorted(missing)}")
        chosen.append(best)
        missing -= runs[best][1]
    return chosen


def found_at() -> dict[str, int]:
    """For each bug a seed whose run shows it soon."""
    seeds = {}
    for bug, promise in BUGS.items():
        shown, began = [], time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            bug(patch)
            for seed in range(SEEDS):
                start = time.process_time()
                violation = world(seed, OFTEN.get(bug, {})).run()
                if violation is not None and str(violation).startswith(promise):
                    shown.append((time.process_time() - start, seed))
                if shown and (min(shown)[0] < _QUICK or time.monotonic() - began > _ENOUGH):
                    break
        seeds[bug.__name__] = min(shown)[1] if shown else -1
    return seeds


if __name__ == "__main__":
    for name, first in found_at().items():
        print(f"{name}: {first}", flush=True)
    print(f"HAPPENED_IN = {tuple(happened_in())}")
