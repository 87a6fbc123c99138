"""A server process that ends, or stops, at a named point of a round, by sending itself SIGKILL or SIGSTOP there.

The product knows nothing of this: `main` wraps the functions between which the points lie, and serves.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ostrakon.server import process
from ostrakon.server.core import round as rounds
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.storage.ledger import Entry, Genesis, Tried
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelStore
from tests.harness.recording_worker import told_by

PATIENCE = 60.0  # seconds to wait for a worker that is told
ANY_ROUND = sys.maxsize


@dataclass(frozen=True)
class Plan:
    """What is to happen to a server process: `signal` at `point`, in `round` or the first one after it that gets there.

    No point: nothing happens.
    """

    point: str = ""
    round: int = 0
    signal: int = signal.SIGKILL
    take_over: bool = False

    def write(self, config: Path) -> None:
        """Put it beside the settings of the process that it is meant for."""
        config.with_suffix(".plan").write_text(json.dumps(asdict(self)))


def main(config: Path, log_file: Path) -> None:
    """Serve, and end or stop as planned."""
    plan = Plan(**json.loads(config.with_suffix(".plan").read_text()))
    if plan.point:
        POINTS[plan.point](Moment(plan, config.parent))
    process.main(config, log_file, take_over=plan.take_over)


class Moment:
    """When it is there, this process gets its signal, once."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.folder = folder
        self._plan = plan
        self._over = False

    def reached(self, round: int) -> None:
        """Called at the point; returns only in another round, or after SIGCONT."""
        if round < self._plan.round or self._over:
            return
        self._over = True
        # To this thread, which then does nothing more; the others of a process end or stop with it.
        signal.pthread_kill(threading.get_ident(), self._plan.signal)


def _before_the_genesis(moment: Moment) -> None:
    create = SqliteLedger.create

    def dying(self: SqliteLedger, genesis: Genesis) -> None:
        moment.reached(ANY_ROUND)
        create(self, genesis)

    _replace(SqliteLedger, "create", dying)


def _while_it_collects(moment: Moment) -> None:
    """The first momentum of the round is there."""
    step = Coordinator.step

    def dying(self: Coordinator, event: rounds.Event) -> None:
        step(self, event)
        if isinstance(event, rounds.Uploaded) and self.round.phase is rounds.Phase.COLLECTING:
            moment.reached(self.round.number)

    _replace(Coordinator, "step", dying)


def _inside_a_file(moment: Moment) -> None:
    """Its bytes are on the disk, under a temporary name."""
    replace, write = os.replace, ModelStore.write
    opening = threading.local()

    def writing(self: ModelStore, theta: Any, running_sum_before: Any) -> Any:
        opening.round = None if running_sum_before is None else _round()
        return write(self, theta, running_sum_before)

    def dying(source: Any, target: Any) -> None:
        if getattr(opening, "round", None) is not None:
            moment.reached(opening.round)
        replace(source, target)

    _remember_the_coordinator()
    _replace(ModelStore, "write", writing)
    _replace(os, "replace", dying)


def _after_the_first_file(moment: Moment) -> None:
    write = ModelStore.write

    def dying(self: ModelStore, theta: Any, running_sum_before: Any) -> Any:
        key = write(self, theta, running_sum_before)
        if running_sum_before is not None:
            moment.reached(_round())
        return key

    _remember_the_coordinator()
    _replace(ModelStore, "write", dying)


def _after_both_files(moment: Moment) -> None:
    write = Coordinator._write_candidates

    async def dying(self: Coordinator) -> Any:
        written = await write(self)
        moment.reached(self.round.number)
        return written

    _replace(Coordinator, "_write_candidates", dying)


def _before_the_entry(moment: Moment) -> None:
    try_commit = SqliteLedger.try_commit

    def dying(self: SqliteLedger, entry: Entry) -> Tried:
        moment.reached(entry.round)
        return try_commit(self, entry)

    _replace(SqliteLedger, "try_commit", dying)


def _inside_the_transaction(moment: Moment) -> None:
    """The entry is inserted, and its transaction not yet committed."""
    transaction, try_commit = SqliteLedger._transaction, SqliteLedger.try_commit
    committing = threading.local()

    @contextmanager
    def dying(self: SqliteLedger) -> Iterator[Any]:
        with transaction(self) as connection:
            yield connection
            if getattr(committing, "round", None) is not None:
                moment.reached(committing.round)

    def entering(self: SqliteLedger, entry: Entry) -> Tried:
        committing.round = entry.round
        try:
            return try_commit(self, entry)
        finally:
            committing.round = None

    _replace(SqliteLedger, "_transaction", dying)
    _replace(SqliteLedger, "try_commit", entering)


def _before_the_announcement(moment: Moment) -> None:
    adopt = Coordinator._adopt

    def dying(self: Coordinator, entry: Entry, winner: Any) -> None:
        moment.reached(entry.round)
        adopt(self, entry, winner)

    _replace(Coordinator, "_adopt", dying)


def _after_the_announcement(moment: Moment) -> None:
    """A worker has been told, and the loser's file is still there."""
    forget = Coordinator._forget

    def dying(self: Coordinator, losers: Any) -> None:
        round = self.head_round
        if losers and round >= moment._plan.round:
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and not any(
                told.round >= round for heads in told_by(moment.folder).values() for told in heads
            ):
                time.sleep(0.002)
            moment.reached(round)
        forget(self, losers)

    _replace(Coordinator, "_forget", dying)


FIRST = "before the genesis"  # reached only by the first server of a run

POINTS: dict[str, Callable[[Moment], None]] = {
    FIRST: _before_the_genesis,
    "while it collects": _while_it_collects,
    "inside a file": _inside_a_file,
    "after the first file": _after_the_first_file,
    "after both files": _after_both_files,
    "before the entry": _before_the_entry,
    "inside the transaction": _inside_the_transaction,
    "before the announcement": _before_the_announcement,
    "after the announcement": _after_the_announcement,
}

_coordinators: list[Coordinator] = []


def _remember_the_coordinator() -> None:
    create = Coordinator.__init__

    def creating(self: Coordinator, *args: Any, **values: Any) -> None:
        create(self, *args, **values)
        _coordinators.append(self)

    _replace(Coordinator, "__init__", creating)


def _round() -> int:
    return _coordinators[-1].round.number


def _replace(owner: Any, name: str, function: Any) -> None:
    setattr(owner, name, function)
