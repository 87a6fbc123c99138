"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Threads of torch that wait do so asleep, and leave the processors to the other processes of the tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # as every command has it

import structlog
import torch

from tests.harness.cluster import Cluster
from tests.harness.recorded_run import RecordedRun

torch.set_num_threads(1)

# In the background of a script, and under nohup, these are ignored, and would be by all processes that tests start.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def log_of_events() -> Iterator[None]:
    """A log that a test has set up, or had set up by what it calls, ends with it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters whose processes are gone when the test is over."""
    made: list[Cluster] = []

    def make(name: str = "cluster", **settings: Any) -> Cluster:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Cluster(folder, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def recorded_run(cluster: Callable[..., Cluster]) -> Iterator[Callable[..., RecordedRun]]:
    """Makes runs whose servers are killed and stopped; the ways to these end with the test."""
    made: list[RecordedRun] = []

    def make(name: str = "recorded_run", **settings: Any) -> RecordedRun:
        made.append(RecordedRun(cluster, name, **{"linger": 60.0, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()
