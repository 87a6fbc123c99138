"""What stops a process that was started by hand, and what does not."""

import signal
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.harness.cluster import importing
from tests.harness.shell import without

PROGRAM = """
import asyncio, signal
from ostrakon.common.lifetime import stop_event

async def main():
    stop = stop_event(asyncio.get_running_loop())
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: print(stop.is_set(), flush=True))
    print("ready", flush=True)
    await stop.wait()

asyncio.run(main())
print("ended in good order")
"""
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def started(ignoring: Iterable[signal.Signals] = ()) -> subprocess.Popen[str]:
    words = without(ignoring, [sys.executable, "-c", PROGRAM])
    process = subprocess.Popen(words, env=importing(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", STOPPING)
def test_each_signal_ends_a_process_in_good_order(number: signal.Signals) -> None:
    process = started()
    process.send_signal(number)
    assert process.communicate(timeout=90)[0] == "ended in good order\n"
    assert process.returncode == 0


@pytest.mark.parametrize("ends", STOPPING)
def test_a_signal_that_was_ignored_before_stays_ignored(ends: signal.Signals) -> None:
    others = [number for number in STOPPING if number != ends]
    process = started(others)
    for number in others:
        process.send_signal(number)
    for _ in range(2):  # by the second answer all of them have arrived
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == "False\n"
    process.send_signal(ends)
    assert process.communicate(timeout=90)[0] == "ended in good order\n"
