"""Computing on this machine: in this process, or in several with one thread each."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ostrakon.common import fork_server
from ostrakon.common.errors import OstrakonError
from ostrakon.common.runtime import prepare
from ostrakon.experiments.tables.computing import Computed, Group, Stopped, Tell, compute, failed
from ostrakon.experiments.tables.store import Record

_PRELOADED = ("ostrakon.experiments.tables.pool", "ostrakon.cli.main")
_DIED = "its process, or one beside it, died, as for want of memory: give the same command, with fewer JOBS"
_LOOK = 0.5  # seconds between two looks at how far the processes are

# Of one of several processes: what it counts its rounds into, and how it learns that it is to end.
_counter: Any = None
_ending: Any = None


def in_this_process(groups: Sequence[Group], tell: Tell) -> Computed:
    """Compute one group after another."""
    prepare(1)
    for group in groups:
        yield group, compute(group, tell)


def in_processes(groups: Sequence[Group], jobs: int, tell: Tell) -> Computed:
    """Compute `jobs` groups at a time, each in a process of its own; closed, it waits for the rounds they are at."""
    fork_server.start(_PRELOADED)
    counter, ending = fork_server.CONTEXT.Value("q", 0), fork_server.CONTEXT.Event()
    waiting = deque(groups)

    def look() -> None:
        with counter.get_lock():
            rounds, counter.value = counter.value, 0
        if rounds:
            tell(rounds)

    while waiting:
        with ProcessPoolExecutor(jobs, fork_server.CONTEXT, _begin, (counter, ending)) as pool:
            try:
                yield from _drive(pool, jobs, waiting, look)
            except BaseException:
                ending.set()
                raise


def _drive(pool: ProcessPoolExecutor, jobs: int, waiting: deque[Group], look: Callable[[], None]) -> Computed:
    """Until nothing is left, or a process has died: then those that ran have failed, and the others still wait."""
    running: dict[Future[list[Record]], Group] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running[pool.submit(_compute, waiting[0])] = waiting[0]
                waiting.popleft()
            done, _ = wait(running, _LOOK, FIRST_COMPLETED)
            look()
            for future in done:
                records = future.result()
                yield running.pop(future), records
    except BrokenProcessPool:
        if not running:
            raise OstrakonError("no process can be started here: give JOBS=1") from None
        for future, group in running.items():
            yield group, [failed(_DIED)] * len(group) if future.exception() else future.result()


def _begin(counter: Any, ending: Any) -> None:
    global _counter, _ending
    _counter, _ending = counter, ending
    prepare(1)


def _compute(group: Group) -> list[Record]:
    def tell(rounds: int) -> None:
        with _counter.get_lock():
            _counter.value += rounds
        if _ending.is_set():
            raise Stopped

    return compute(group, tell)
