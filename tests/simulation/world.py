"""One simulation: a run, what befalls it, and who starts its processes again. One integer decides all."""

import asyncio
import gc
import inspect
import logging
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import structlog
import torch

import ostrakon.common.wire
import ostrakon.worker.backoff
from ostrakon.common.aggregation import rule
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.model_file import write_model
from ostrakon.common.wire import Vector
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.storage.model_store import ModelKey, Stored
from ostrakon.worker.session import Session
from ostrakon.worker.transport import CallFailed
from tests.simulation.byzantine import VECTORS, Liar
from tests.simulation.disk import Disk, MemoryStore, Owner, SimulatedLedger, SimulatedStore
from tests.simulation.history import Chance, History
from tests.simulation.invariants import Invariants, Violation
from tests.simulation.lives import LINGER, Pull, ServerLife, server_settings
from tests.simulation.loop import PROCESS, Clock, Killed, Loop, Process, offload
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Line, Network, Served
from tests.simulation.scenario import Scenario, draw_scenario

FAULTS_END = 120.0  # seconds after which nothing fails any more
BACKUP = 40.0  # seconds after which a lost file is put back, if it is missed still
PATIENCE = 600.0  # seconds that the run may take from then on
CHUNK_BYTES = 8  # so that a vector is several chunks


class World:
    """Everything of one simulation."""

    def __init__(self, seed: int, *, scenario: Scenario | None = None) -> None:
        """`scenario`: what is otherwise drawn."""
        self.rng = Random(seed)
        self.scenario = scenario or draw_scenario(self.rng)
        self.loop = Loop(self.rng)
        self.clock = Clock(self.loop)
        self.history = History(lambda: (self.loop.steps, self.loop.time()))
        self.chance = Chance(self.rng, self.scenario.rates, self.history)
        self.disk = Disk()
        self.rule = rule(self.scenario.rule)
        self.settings = server_settings(self.scenario, _initial(self.scenario.d))
        self.theta_0: Vector = np.zeros(self.scenario.d, dtype=np.float32)
        self.invariants = Invariants(self.scenario, self.rule, self.theta_0, self.disk, self.history)
        self.loop.crashed = self._crashed
        self.network = Network(self.loop, self.rng, self.chance, self.history, self.invariants.hear)
        self.offload = offload(self.loop, self._pause)
        self.servers: list[Served] = []  # alive, stopped ones included
        self.workers: dict[str, Process] = {}
        self.revoked: frozenset[Identity] = frozenset()
        self.over: set[str] = set()  # workers that heard the end
        self._lives: dict[Process, ServerLife] = {}
        self._sessions: dict[str, Session] = {}  # of honest workers, the newest of each
        self.invariants.holders = self._holders
        self._targets = self.scenario.targets()
        self.processes: list[Process] = []  # all that there ever were
        self._ending = False
        self._diverged = False  # a worker was told so, and has gone home
        self._calm_since: float | None = None
        self.nemesis = Nemesis(self)

    def run(self) -> Violation | None:
        """Run to the end; returns the first broken promise, if one was."""
        self.history.note(f"scenario: {self.scenario}")
        with _alone(self.rng):
            self.loop.after_step = self._after_step
            self.loop.world.start(self._begin())
            if not self.scenario.rates and not self.scenario.strikes:
                self._faults_end()
            else:
                self.at(FAULTS_END, self._faults_end)
            self.loop.run_forever()
            self.loop.close()
            for task in (task for process in self.processes for task in process.tasks):
                if inspect.iscoroutine(work := task.get_coro()) and inspect.getcoroutinestate(work) == "CORO_CREATED":
                    work.close()  # what a killed process was about to begin
        self.invariants.finish()
        self.history.note(f"end: {len(self.disk.entries)} rounds, terms to {self.disk.largest_term}")
        return self.invariants.violation

    def at(self, seconds: float, deed: Any, *arguments: Any) -> None:
        """Let something happen after so many seconds, whoever is dead by then."""
        self.loop.call_later(seconds, deed, *arguments, context=self.loop.world.context)

    # Servers.

    def start_server(self, why: str) -> None:
        """Start another server; it takes over from those that are still there."""
        process = self._process("server")
        self.history.note(f"{process.name} starts: {why}", "server started")
        self._lose_the_model(process)
        owner = Owner(process.name, lambda: self.kill(process))
        ledger = SimulatedLedger(
            self.disk,
            owner,
            self.chance,
            later=lambda deed: self.at(self.rng.choice((0.01, 0.3, 3.0)) * self.rng.random(), deed),
            offered=self.invariants.offered,
            committed=self.invariants.committed,
        )
        store = SimulatedStore(self.disk, owner, self.chance, self.rng, deleting=self.invariants.deleting)
        life = ServerLife(
            self.settings,
            self.rule,
            ledger,
            store,
            self.clock,
            self.offload,
            self.invariants,
            process.name,
            lambda: self.revoked,
        )
        self._lives[process] = life
        process.start(self._serve(process, life))

    async def _serve(self, process: Process, life: ServerLife) -> None:
        try:
            outcome = await life.live(
                lambda: self._start_slowly(process),
                lambda calls, state: self._open_doors(process, calls, state),
            )
        except Killed:
            return
        except OstrakonError as error:
            kind = "fenced" if "larger term" in str(error) else ""
            self.history.note(f"{process.name} ends: {str(error)[:150]}", kind)
            self._gone(process)
            return
        except Exception as error:
            self._crashed(error)
            return
        self.history.note(f"{process.name} ends: {outcome}", outcome)
        self._gone(process)
        self._end_soon()

    def _lose_the_model(self, process: Process) -> None:
        """The file of the head is gone, or a part of it, until somebody puts it back from a backup."""
        disk = self.disk
        keys = [ModelKey(entry.winner, entry.running_sum) for entry in disk.entries[-2:]]
        # Without the sum of the round before nothing can be done: the server says so, and ends.
        if not keys or len(set(keys)) < min(2, len(disk.entries)) or not all(map(self._is_whole, keys)):
            return
        if self.chance.strikes("model lost", process.name):
            name = MemoryStore.name(keys[-1])
            lost = disk.backup[name] = disk.files.pop(name)
            if self.rng.random() < 0.5:
                running_sum = lost.running_sum if self.rng.random() < 0.5 else lost.running_sum[:-1]
                disk.files[name] = Stored(lost.theta + 1, running_sum)
            self.at(BACKUP, self._put_back, keys[-1])

    def _put_back(self, key: ModelKey) -> None:
        """The operator has waited long enough: the file comes back, and a server that looks for it is ended."""
        name, head = MemoryStore.name(key), self.disk.entries[-1]
        stored = self.disk.backup.pop(name, None)
        if stored is None or key != ModelKey(head.winner, head.running_sum) or self._is_whole(key):
            return
        self.history.note(f"the model of round {head.round} is put back", "model put back")
        self.disk.files[name] = stored
        for served in list(self.servers):
            if isinstance(served.state, Recovery):
                self.kill(served.process)

    def _is_whole(self, key: ModelKey) -> bool:
        stored = self.disk.files.get(MemoryStore.name(key))
        return stored is not None and ModelKey(digest(stored.theta), digest(stored.running_sum)) == key

    def _holders(self, digest: str) -> list[str]:
        """Honest workers that live and have this model."""
        revoked = {identity.id for identity in self.revoked}
        return [
            name
            for name, session in self._sessions.items()
            if self.workers[name].alive and name not in revoked and digest in session.rounds.exchange.held
        ]

    async def _start_slowly(self, process: Process) -> None:
        if self.chance.strikes("server stopped while it starts", process.name):
            self.nemesis.stop(process, take_over=True)
        await asyncio.sleep(self._pause())

    def _open_doors(self, process: Process, calls: Calls | Recovery, state: Coordinator | Recovery) -> None:
        what = "looks for its model" if isinstance(state, Recovery) else "serves"
        self.history.note(f"{process.name} {what}, term {state.term}")
        for served in self.servers:
            if served.process is process:  # it has found its model: who reached it reaches it still
                served.calls, served.state = calls, state
                return
        self.servers.append(Served(process, state, calls))
        for name in (*self.scenario.roster, "stranger"):
            if self.chance.over or self.rng.random() < 0.8 or self.network.routes.get(name) is None:
                self.reroute(name)
            else:  # this one finds the new server later
                self.at(self.rng.random() * 10, self.reroute, name)

    def reroute(self, name: str) -> None:
        """Lead a caller to the server with the largest term."""
        if self.servers:
            self.network.routes[name] = max(self.servers, key=lambda served: served.state.term)

    @property
    def current(self) -> Process | None:
        """The server that is to serve: one that has yet to draw its term, or else the one with the largest."""
        alive = [(life.term or 1 << 60, process) for process, life in self._lives.items() if process.alive]
        term, process = max(alive, key=lambda one: one[0], default=(0, None))
        return process if term >= self.disk.largest_term else None

    def kill(self, process: Process) -> None:
        """Kill a process; raises in its middle if it is the one that runs."""
        if process.alive:
            self.history.note(f"{process.name} is killed", f"{process.name.split()[0]} killed")
            self._gone(process)
        if PROCESS.get(self.loop.world) is process:
            raise Killed
        return

    def _gone(self, process: Process) -> None:
        """A process is no more: its connections break, and somebody starts it again."""
        process.kill()
        for served in [one for one in self.servers if one.process is process]:
            self.servers.remove(served)
            self.network.break_calls(served)
        for served in self.servers:
            self.network.break_calls(served, process)
        if process in self._lives and not self._ending:
            self.at(self.rng.choice((0.05, 2.0)) * (0.5 + self.rng.random()), self._restart_server)
        for name, process_of_it in self.workers.items():
            if process_of_it is process and name not in self.over:
                self.at(self.rng.choice((0.05, 2.0)) * (0.5 + self.rng.random()), self._restart_worker, name)

    def _restart_server(self) -> None:
        if self.current is None and not self._ending:
            self.start_server("the last one is gone")

    # Workers.

    def _restart_worker(self, name: str) -> None:
        if name in self.workers and not self.workers[name].alive:
            self.start_worker(name)

    def start_worker(self, name: str) -> None:
        """Start a worker's process."""
        process = self._process(name)
        self.workers[name] = process
        self._sessions.pop(name, None)
        line = Line(self.network, process, Identity("worker", name), self.invariants.said)
        self.network.routes.setdefault(process.name, None)
        if (name in self.scenario.liars and self.rng.random() < 0.5) or name == "stranger":
            liar = Liar(name, line, self.rng, self.scenario.d, self.history.note)
            process.start(self._watch(process, name, liar.live))
            return
        lies = self.rng.choice(VECTORS[:3]) if name in self.scenario.liars else None
        learner = Pull(self._targets[name], self.rng, lies)
        session = Session("pull", self.scenario.d, learner, line, self.clock, offload=self.offload)
        if lies is None:
            self._sessions[name] = session
        process.start(self._watch(process, name, session.take_part))

    async def _watch(self, process: Process, name: str, life: Callable[[], Awaitable[str | None]]) -> None:
        try:
            outcome = await life()
        except Killed:
            return
        except OstrakonError as error:
            self.history.note(f"{process.name} gives up: {str(error)[:150]}", "worker gave up")
        except Exception as error:
            self._crashed(error)
            return
        else:
            self.history.note(f"{process.name} ends: {outcome}")
            self.over.add(name)
            self._diverged = self._diverged or outcome == "diverged"
        self._gone(process)

    def _process(self, name: str) -> Process:
        number = sum(process in self._lives for process in self.processes) + 1
        self.processes.append(Process(self.loop, f"{name} {number}" if name == "server" else name))
        return self.processes[-1]

    # From the beginning to the end.

    async def _begin(self) -> None:
        self.start_server("the first")
        for name in self.scenario.roster:
            self.at(self.rng.random() * self.rng.choice((0.1, 3.0)), self.start_worker, name)
        if self.scenario.strangers:
            self.start_worker("stranger")

    def _after_step(self) -> None:
        self.nemesis.step()
        self.invariants.check_bounds(self.servers)
        if self.invariants.violation is not None:
            self.loop.stop()

    def _end_soon(self) -> None:
        """The run is over; let the last ones hear it."""
        if not self._ending:
            self._ending = True
            self.at(2 * LINGER, self.loop.stop)

    def _faults_end(self) -> None:
        """Nothing fails any more: from now on the run must come to its end."""
        self.history.note("the faults are over")
        self.chance.over = True
        self.nemesis.heal()
        self.at(PATIENCE, self._too_long)

    def _too_long(self) -> None:
        # That a run has diverged is in no ledger: a server that dies while it says so is followed by one that waits.
        if self._diverged:
            self._end_soon()
        elif not self._ending:
            rounds = f"{len(self.disk.entries)} of {self.scenario.rounds} rounds"
            self.invariants.violated("I8", f"{rounds} are committed {PATIENCE:g} s after the last fault")

    def _crashed(self, error: BaseException) -> None:
        if not isinstance(error, (Killed, OstrakonError, CallFailed)):
            self.invariants.violated("I8", f"a process is brought down by {type(error).__name__}: {error}")

    def _pause(self) -> float:
        """Seconds that blocking work takes."""
        return self.rng.expovariate(500.0) if self.rng.random() < 0.9 else self.rng.random() * 0.3


@contextmanager
def _alone(rng: Random) -> Iterator[None]:
    """Let nothing but the seed decide while inside: names, jitter, the collector of garbage, the size of chunks."""
    old_uuid, old_random, old_chunk, log = (
        uuid.uuid4,
        ostrakon.worker.backoff.jitter,
        ostrakon.common.wire.CHUNK_BYTES,
        structlog.get_config(),
    )
    names = Random(rng.random())
    uuid.uuid4 = lambda: uuid.UUID(int=names.getrandbits(128), version=4)
    ostrakon.worker.backoff.jitter = rng  # type: ignore[assignment]
    ostrakon.common.wire.CHUNK_BYTES = CHUNK_BYTES
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        torch.set_num_threads(threads)
        structlog.configure(**log)
        ostrakon.common.wire.CHUNK_BYTES, ostrakon.worker.backoff.jitter, uuid.uuid4 = old_chunk, old_random, old_uuid


@cache
def _initial(d: int) -> Path:
    """The file of theta_0, all zeros: the one thing that is read from the machine's disk."""
    path = Path(_folder().name) / f"initial-{d}.safetensors"
    write_model(path, np.zeros(d, dtype=np.float32), (("weight", (d,)),), {"task": "pull"})
    return path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="simulation-")
