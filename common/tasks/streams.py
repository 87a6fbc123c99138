"""Named streams of random numbers: every draw follows from a seed and says what it is for."""

import hashlib
import random

import numpy as np
import torch

# What a draw is for. Streams of a task's data:
WORKERS = 0
TEST = 1
POPULATION = 2
PARTITION = 6
SHARE = 7  # of one worker
# What a user's code draws from the global generators, outside of passes through the model:
TASK = 3
MODEL = 4
FLIPPED = 5
FEED = 8


def stream(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """The generator for one purpose and one index (the worker's number), independent of every other one."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, index)))


def torch_generator(device: torch.device, seed: int, *what: int) -> torch.Generator:
    """A generator of torch's on a device, whose draws follow from a seed and from what is drawn."""
    return torch.Generator(device).manual_seed(int.from_bytes(_key(seed, *what)[:8], "little"))


def seed_generators(device: torch.device, seed: int, *what: int) -> None:
    """Let torch's, numpy's and Python's global generators follow from a seed and from what is drawn.

    User code draws from them: dropout, noise, `random`, `numpy.random`. Called before each pass through such code, so
    that a draw depends neither on what was drawn before nor on the process it happens in. About 10 us.

    Args:
        device: whose generator is seeded beside the CPU's.
        what: purpose, worker, round: different numbers give independent draws.
    """
    key = _key(seed, *what)
    of_torch = int.from_bytes(key[:8], "little")
    # Not torch.manual_seed: that takes a hundred times as long, most of it for devices that are not there.
    torch.default_generator.manual_seed(of_torch)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(of_torch)
    np.random.seed(int.from_bytes(key[8:12], "little"))
    random.seed(int.from_bytes(key[12:], "little"))


def _key(seed: int, *what: int) -> bytes:
    return hashlib.blake2b("/".join(map(str, (seed, *what))).encode(), digest_size=20).digest()
