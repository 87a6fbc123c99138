"""Named streams of random numbers: every draw of a task's data follows from a seed and says what it is for."""

import numpy as np

WORKERS = 0
TEST = 1
POPULATION = 2


def stream(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """The generator for one purpose and one index (the worker's number), independent of every other one."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, index)))
