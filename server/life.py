"""One life of a server: draw a term, open the run, find a lost model again, serve, say farewell, leave results.

What a process and a simulation do not share is handed in: ledger, store, clock, threads, and the way to those who call.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import structlog

from ostrakon.common.aggregation import Rule
from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.runtime import peak_bytes
from ostrakon.server.core.aggregator import Aggregator
from ostrakon.server.core.commit import Offload, check_not_taken_over, unless_taken_over
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.core.metrics import Metrics
from ostrakon.server.rpc.calls import Calls
from ostrakon.server.rpc.recovery import Recovery
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.initial import Initial, check_same_run
from ostrakon.server.storage.ledger import Genesis, Ledger
from ostrakon.server.storage.model_store import ModelStore
from ostrakon.server.storage.run import ModelLost, OpenRun, open_run

log = structlog.get_logger()

TERM_CHECK_SECONDS = 2.0  # between two looks at whether another server has taken over

Status = Literal["completed", "diverged", "stopped"]

# Called with who answers from now on, and for whom: first a recovery, where a model is lost, then the calls of a round.
Serve = Callable[[Coordinator | Recovery, Calls | Recovery], Awaitable[None]]


class Results(Protocol):
    """What a run leaves in its folder beside ledger and models."""

    def check(self, genesis: Genesis) -> None:
        """Make sure that they can be written at the end.

        Raises:
            OstrakonError: they could not.
        """

    def sweep(self) -> None:
        """Delete what was being written when a server died."""

    def write(self, coordinator: Coordinator) -> None:
        """Write the last model and the average.

        Raises:
            OstrakonError: there is no space left, or the folder cannot be written.
        """


class Life:
    """One life of a server, step by step, or all of it: `live`."""

    def __init__(
        self,
        settings: ServerSettings,
        rule: Rule,
        initial: Initial,
        *,
        holder: str,
        ledger: Ledger,
        store: ModelStore,
        results: Results,
        metrics: Metrics,
        clock: Clock,
        aggregator: Callable[[int], Aggregator],
        offload: Offload = asyncio.to_thread,
        revoked: Callable[[], frozenset[Identity]] = frozenset,
        started: float | None = None,
    ) -> None:
        """`holder` says in the ledger whose term it is; `aggregator(d)` is asked for rows of d values; `offload` and
        `started` are as for the coordinator; `revoked` is asked time and again who is shut out.
        """
        self.term = 0  # until it is drawn
        self._settings, self._rule, self._holder = settings, rule, holder
        self._initial = initial
        self._ledger, self._store, self._results, self._metrics = ledger, store, results, metrics
        self._clock, self._offload, self._revoked, self._started = clock, offload, revoked, started
        self._aggregator = aggregator

    async def live(self, serve: Serve, stop: asyncio.Event) -> Status:
        """Serve until the run is over or `stop` is set.

        Raises:
            OstrakonError: this server cannot begin or go on; another one has taken over.
        """
        await self._offload(self.check)
        if stop.is_set():
            return "stopped"  # before the term, which would end a server that goes on
        await self._offload(self.draw_term)
        try:
            run = await self._offload(self.open)
        except ModelLost as lost:
            found = await self._recover(lost, serve, stop)
            if found is None:
                return "stopped"
            run = found
        await self._offload(self.tidy, run)
        coordinator = self.coordinator(run)
        calls = Calls(coordinator)
        await serve(coordinator, calls)
        log.info("serving", address=self._settings.listen, run=run.genesis.run, term=self.term, round=run.round + 1)
        return await self._serve(coordinator, calls, stop)

    def check(self) -> None:
        """Before the term, which ends every other server: the settings are this run's, if there is one."""
        genesis = self._ledger.genesis()
        if genesis is not None:
            check_same_run(self._settings, self._initial, genesis)

    def draw_term(self) -> None:
        """From now on nobody with a smaller term can move the head."""
        self.term = self._ledger.draw_term(self._holder)

    def open(self) -> OpenRun:
        """After the term: read the head, which is nobody else's to move any more.

        Raises:
            ModelLost: the model of the head is nowhere on the disk.
        """
        try:
            return open_run(self._settings, self._initial, self._ledger, self._store)
        finally:
            self._initial.forget()

    def tidy(self, run: OpenRun) -> None:
        """Delete what earlier servers left behind, and make sure that there will be results."""

        def delete() -> None:
            self._store.prune(run.kept)
            self._results.sweep()

        self._results.check(run.genesis)
        unless_taken_over(self._ledger, self.term, delete)

    def coordinator(self, run: OpenRun) -> Coordinator:
        """What decides the rounds of a run that is open."""
        return Coordinator(
            self._settings,
            run,
            self.term,
            two_phase=self._rule.two_phase,
            ledger=self._ledger,
            store=self._store,
            aggregator=self._aggregator(run.genesis.parameters),
            clock=self._clock,
            metrics=self._metrics,
            offload=self._offload,
            revoked=self._revoked,
            started=self._started,
        )

    def recovery(self, lost: ModelLost) -> Recovery:
        """What looks for a model that is lost."""
        return Recovery(
            self._settings, lost, self.term, self._clock, two_phase=self._rule.two_phase, revoked=self._revoked
        )

    async def _recover(self, lost: ModelLost, serve: Serve, stop: asyncio.Event) -> OpenRun | None:
        """The run with the model that a worker sent back; None if this server is stopped before."""
        recovery = self.recovery(lost)
        await serve(recovery, recovery)
        looking, stopped = asyncio.create_task(recovery.theta()), asyncio.create_task(stop.wait())
        watch = asyncio.create_task(self._watch_term(recovery))
        try:
            await asyncio.wait({looking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                return None
            run: OpenRun = await self._offload(lost.found, looking.result())
            # It may have taken long: the head may be another server's by now.
            await self._offload(check_not_taken_over, self._ledger, self.term)
            return run
        finally:
            for task in (looking, stopped, watch):
                task.cancel()

    async def _serve(self, coordinator: Coordinator, calls: Calls, stop: asyncio.Event) -> Status:
        rounds, stopped = asyncio.create_task(coordinator.run()), asyncio.create_task(stop.wait())
        watch = asyncio.create_task(self._watch_term(coordinator))
        try:
            await asyncio.wait({rounds, stopped}, return_when=asyncio.FIRST_COMPLETED)
            status: Status = rounds.result() if rounds.done() else "stopped"
            if rounds.done():
                farewell = asyncio.create_task(calls.farewell())
                await asyncio.wait({farewell, stopped}, return_when=asyncio.FIRST_COMPLETED)
                farewell.cancel()
            # What is written now may be a successor's.
            await self._offload(check_not_taken_over, self._ledger, self.term)
            self._results.write(coordinator)
            self._metrics.record("finished", status=status, **_figures(coordinator))
            return status
        finally:
            for task in (rounds, stopped, watch):
                task.cancel()
            await asyncio.wait({rounds, stopped, watch})

    async def _watch_term(self, waiting: Coordinator | Recovery) -> None:
        """End this server when another has taken over: without a quorum it would come to no commit that says so."""
        while True:
            await asyncio.sleep(TERM_CHECK_SECONDS)
            try:
                await self._offload(check_not_taken_over, self._ledger, self.term)
            except OstrakonError as error:
                waiting.fail(error)


def _figures(coordinator: Coordinator) -> dict[str, Any]:
    return {
        "round": coordinator.head_round,
        "seconds": coordinator.elapsed(),
        "seconds_to_first_commit": coordinator.seconds_to_first_commit,
        "peak_bytes": peak_bytes(),
        "refused": [[who, why, count] for (who, why), count in sorted(coordinator.refusals.counted().items())],
    }
