"""What the processes of a simulation do: a server as `server/process.py` runs it, and workers with their learners."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from ostrakon.common.aggregation import Rule
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.wire import Vector
from ostrakon.server.core import round as rounds
from ostrakon.server.core.aggregator import Aggregator, Candidate
from ostrakon.server.core.commit import check_not_taken_over, unless_taken_over
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.ledger import Ledger
from ostrakon.server.storage.run import ModelLost, OpenRun, check_same_run, open_run
from ostrakon.worker.training import Momentum
from ostrakon.worker.voting import Ballot
from tests.simulation.byzantine import lie
from tests.simulation.invariants import Invariants
from tests.simulation.loop import Clock
from tests.simulation.scenario import Scenario

LINGER = 3.0  # seconds
TERM_CHECK = 2.0  # seconds between two looks at whether another server has taken over


def server_settings(scenario: Scenario, initial: Path) -> ServerSettings:
    """The settings of every server of a run."""
    return ServerSettings(
        task="pull",
        rule=scenario.rule,
        roster=scenario.roster,
        f=scenario.f,
        gamma=scenario.gamma,
        quorum="asynchronous" if scenario.asynchronous else "synchronous",
        rounds=scenario.rounds,
        directory=initial.parent,
        initial=initial,
        upload_timeout=5.0,
        join_timeout=4.0,
        grace_floor=0.5,
        linger=LINGER,
    )


Serve = Callable[[Calls | Recovery, Coordinator | Recovery], None]


class Nowhere:
    """Metrics that nobody reads."""

    def record(self, event: str, **values: Any) -> None:
        pass


class WatchedAggregator(Aggregator):
    """Tells of every use before it happens."""

    watch: Callable[[list[int], int], None]

    def candidates(self, theta: Vector, positions: Any, f: int, gamma: float) -> tuple[Candidate | None, ...]:
        self.watch(list(positions), f)
        return super().candidates(theta, positions, f, gamma)


class ServerLife:
    """One server process, from the term to the farewell."""

    def __init__(
        self,
        settings: ServerSettings,
        rule: Rule,
        d: int,
        ledger: Ledger,
        store: Any,
        clock: Clock,
        offload: Any,
        invariants: Invariants,
        name: str,
        revoked: Callable[[], frozenset[Identity]],
    ) -> None:
        self._settings, self._rule, self._d = settings, rule, d
        self._ledger, self._store, self._clock, self._offload = ledger, store, clock, offload
        self._invariants = invariants
        self._name = name
        self._revoked = revoked
        self.term = 0  # once it is drawn

    async def live(self, pause: Callable[[], Awaitable[None]], serve: Serve) -> str:
        """Serve until the run is over; `serve` is called when calls are answered. In a `pause` others run.

        Raises:
            OstrakonError: this server cannot go on.
        """
        settings, ledger, store = self._settings, self._ledger, self._store
        check_same_run(settings, ledger)
        await pause()
        self.term = ledger.draw_term(self._name)
        await pause()
        try:
            run = open_run(settings, ledger, store)
        except ModelLost as lost:
            run = await self._recover(lost, serve)
        await pause()
        unless_taken_over(ledger, self.term, lambda: store.prune(run.kept))
        await pause()
        aggregator = WatchedAggregator(self._rule, len(settings.roster), self._d, torch.device("cpu"))
        state = Coordinator(
            settings,
            run,
            self.term,
            two_phase=self._rule.two_phase,
            ledger=ledger,
            store=store,
            aggregator=aggregator,
            clock=self._clock,
            metrics=Nowhere(),
            offload=self._offload,
            revoked=self._revoked,
        )
        self._watch(state, aggregator)
        calls = Calls(state)
        serve(calls, state)
        watching = asyncio.create_task(self._watch_term(state))
        outcome = await state.run()
        if outcome == "diverged":
            self._invariants.diverged(state.round.number)
        await calls.farewell()
        watching.cancel()
        await self._offload(check_not_taken_over, ledger, self.term)
        return outcome

    async def _recover(self, lost: ModelLost, serve: Serve) -> OpenRun:
        recovery = Recovery(
            self._settings, lost, self.term, self._clock, two_phase=self._rule.two_phase, revoked=self._revoked
        )
        serve(recovery, recovery)
        watching = asyncio.create_task(self._watch_term(recovery))
        try:
            theta = await recovery.theta()
        except OstrakonError as error:
            self._invariants.ended_without_a_model(lost.run.key.digest, recovery.head_round, str(error))
            raise
        finally:
            watching.cancel()
        self._invariants.came_back(recovery.head_round, theta)
        run: OpenRun = await self._offload(lost.found, theta)
        await self._offload(check_not_taken_over, self._ledger, self.term)
        return run

    async def _watch_term(self, state: Coordinator | Recovery) -> None:
        while True:
            await asyncio.sleep(TERM_CHECK)
            try:
                await self._offload(check_not_taken_over, self._ledger, self.term)
            except OstrakonError as error:
                state.fail(error)

    def _watch(self, state: Coordinator, aggregator: WatchedAggregator) -> None:
        step, roster = state.step, self._settings.roster

        def watched(event: rounds.Event) -> None:
            self._invariants.happens(state, event)
            step(event)

        state.step = watched  # type: ignore[method-assign]
        aggregator.watch = lambda positions, f: self._invariants.aggregating(state, [roster[p] for p in positions], f)


class Pull:
    """A learner whose gradient pulls theta toward a target, with momentum; it votes for the nearer candidate."""

    def __init__(self, target: Vector, rng: Random, lies: str | None) -> None:
        """`lies`: how it lies about its momentum and its vote, if it does."""
        self._target = target
        self._rng = rng
        self._lies = lies
        self._momentum = np.zeros_like(target)
        self._trained: tuple[int, str] | None = None
        self._result: Momentum | None = None

    def begin(self, position: int, workers: int) -> None:
        pass

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        if self._result is None or self._trained != (round, base):
            with np.errstate(over="ignore", invalid="ignore"):
                gradient = theta - self._target
                finite = bool(np.isfinite(gradient).all())
                if finite:
                    self._momentum = np.float32(0.5) * self._momentum + np.float32(0.5) * gradient
            sent = self._momentum if self._lies is None else lie(self._rng, self._lies, self._momentum)
            self._result, self._trained = Momentum(sent, 1.0, finite), (round, base)
        return self._result

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        with np.errstate(over="ignore", invalid="ignore"):
            losses = [float(np.linalg.norm(theta - self._target)) for theta in (inner, outer)]
        nearer = losses[1] < losses[0]
        return Ballot("outer" if nearer is (self._lies is None) else "inner", *losses)
