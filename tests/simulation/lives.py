"""What the processes of a simulation do: the life of a server, watched, and workers with their learners."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from ostrakon.common.aggregation import Rule
from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Ballot, Outcome
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.wire import Vector
from ostrakon.server.core import round as rounds
from ostrakon.server.core.aggregator import Aggregator, Candidate
from ostrakon.server.core.commit import Offload
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.life import Life
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.initial import Initial
from ostrakon.server.storage.ledger import Genesis, Ledger
from ostrakon.worker.training import Momentum
from tests.simulation.byzantine import lie
from tests.simulation.invariants import Invariants
from tests.simulation.loop import Clock
from tests.simulation.scenario import Scenario

LINGER = 3.0  # seconds


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
        grace_floor=0.5 if scenario.rates or scenario.strikes else 30.0,  # where nothing fails, nobody is given up
        linger=LINGER,
    )


Serve = Callable[[Calls | Recovery, Coordinator | Recovery], None]


class Nowhere:
    """Metrics and results that nobody reads."""

    def record(self, event: str, **values: Any) -> None:
        pass

    def check(self, genesis: Genesis) -> None:
        pass

    def sweep(self) -> None:
        pass

    def write(self, coordinator: Coordinator) -> None:
        pass


class WatchedAggregator(Aggregator):
    """Tells of every use before it happens."""

    watch: Callable[[list[int], int], None]

    def candidates(self, theta: Vector, positions: Any, f: int, taken: Step) -> tuple[Candidate | None, ...]:
        self.watch(list(positions), f)
        return super().candidates(theta, positions, f, taken)


class ServerLife:
    """One server process of a simulation: the life that ships, watched by the invariants."""

    def __init__(
        self,
        settings: ServerSettings,
        rule: Rule,
        ledger: Ledger,
        store: Any,
        clock: Clock,
        offload: Offload,
        invariants: Invariants,
        name: str,
        revoked: Callable[[], frozenset[Identity]],
    ) -> None:
        self._settings, self._offload, self._invariants = settings, offload, invariants
        self._life = Life(
            settings,
            rule,
            Initial(settings.initial),
            holder=name,
            ledger=ledger,
            store=store,
            results=Nowhere(),
            metrics=Nowhere(),
            clock=clock,
            aggregator=lambda d: WatchedAggregator(rule, len(settings.roster), d, torch.device("cpu")),
            offload=self._work,
            revoked=revoked,
        )
        self._pause: Callable[[], Awaitable[None]] | None = None  # while it starts

    @property
    def term(self) -> int:
        """0 until it is drawn."""
        return self._life.term

    async def live(self, pause: Callable[[], Awaitable[None]], serve: Serve) -> str:
        """Serve until the run is over; `serve` is called when calls are answered. Where it starts, others run in
        a `pause` before each of its steps.

        Raises:
            OstrakonError: this server cannot go on.
        """
        self._pause = pause

        async def answer(state: Coordinator | Recovery, answers: Calls | Recovery) -> None:
            if isinstance(state, Recovery):
                self._watch_recovery(state)
            else:
                self._pause = None
                self._watch(state)
            serve(answers, state)

        return await self._life.live(answer, asyncio.Event())

    async def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._pause is not None:
            await self._pause()
        return await self._offload(function, *arguments)

    def _watch(self, state: Coordinator) -> None:
        step, run, roster = state.step, state.run, self._settings.roster

        def watched(event: rounds.Event) -> None:
            self._invariants.happens(state, event)
            step(event)

        async def ran() -> Outcome:
            outcome = await run()
            if outcome == "diverged":
                self._invariants.diverged(state.round.number)
            return outcome

        state.step, state.run = watched, ran  # type: ignore[method-assign]
        assert isinstance(state.aggregator, WatchedAggregator)
        state.aggregator.watch = lambda positions, f: self._invariants.aggregating(
            state, [roster[p] for p in positions], f
        )

    def _watch_recovery(self, state: Recovery) -> None:
        find, lost = state.theta, state.looked_for

        async def found() -> Vector:
            try:
                theta = await find()
            except OstrakonError as error:
                self._invariants.ended_without_a_model(lost, state.head_round, str(error))
                raise
            self._invariants.came_back(state.head_round, theta)
            return theta

        state.theta = found  # type: ignore[method-assign]


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

    def prepare(self, round: int, base: str, theta: Vector, taken: Step) -> None:
        pass

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        with np.errstate(over="ignore", invalid="ignore"):
            losses = [float(np.linalg.norm(theta - self._target)) for theta in (inner, outer)]
        nearer = losses[1] < losses[0]
        return Ballot("outer" if nearer is (self._lies is None) else "inner", *losses)
