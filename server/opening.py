"""Where a run starts or goes on: the genesis entry of a new one, the head of a known one."""

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.aggregation import rule
from common.digest import digest
from common.errors import OstrakonError
from common.identity import Identity
from common.model_file import read_model
from common.settings import ServerSettings
from common.wire import Vector
from server.ledger import Entry, Genesis, Ledger
from server.model_store import Key, ModelStore, initial_key


@dataclass
class History:
    """What the entries of a run add up to."""

    wins: Counter[str] = field(default_factory=Counter)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)  # (member, reason)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # (member, reason)
    strangers: Counter[str] = field(default_factory=Counter)  # refused callers that are no members; not in the ledger

    def add(self, entry: Entry) -> None:
        """Count one more committed round."""
        self.wins[entry.choice] += 1
        self.missing.update(entry.missing.items())
        for member, reasons in entry.refused.items():
            for reason, count in reasons.items():
                self.refused[member, reason] += count


@dataclass
class OpenRun:
    """A run, ready for its next round.

    `theta` is (d,) float32; `running_sum` is theta_1 + ... + theta_t, (d,) float64; `key` names both on disk.
    """

    genesis: Genesis
    head: Entry | None
    theta: Vector
    running_sum: NDArray[np.float64]
    key: Key
    history: History

    @property
    def revoked(self) -> frozenset[Identity]:
        """The members that were shut out of the last committed round: no list is needed to keep them out."""
        return frozenset() if self.head is None else frozenset(Identity("worker", m) for m in self.head.revoked)

    @property
    def head_hash(self) -> str:
        """What the next entry names as its previous one."""
        return self.genesis.hash if self.head is None else self.head.hash


def open_run(settings: ServerSettings, ledger: Ledger, store: ModelStore) -> OpenRun:
    """Start a new run from `settings.initial`, or go on with the one that the ledger holds.

    Raises:
        OstrakonError: the settings differ from those the run was started with; a file is missing or damaged.
    """
    genesis = ledger.genesis()
    if genesis is None:
        return _begin(settings, ledger, store)
    check_same_run(settings, ledger)
    history = History()
    head: Entry | None = None
    for head in ledger.entries():
        history.add(head)
    key = initial_key(genesis.theta_0, genesis.parameters) if head is None else Key(head.winner, head.running_sum)
    stored = store.read(key)
    return OpenRun(genesis, head, stored.theta, stored.running_sum, key, history)


def _begin(settings: ServerSettings, ledger: Ledger, store: ModelStore) -> OpenRun:
    initial = read_model(settings.initial)
    task = initial.metadata.get("task")
    if task != settings.task:
        raise OstrakonError(
            f"initial model {settings.initial} was made for task {task}, this run's task is {settings.task}: "
            "write it with `python -m worker init` and the run's task"
        )
    key = store.write(initial.theta, None)  # durable before the genesis that names it
    genesis = Genesis(
        run=str(uuid.uuid4()),
        settings=_identity(settings),
        parameters=initial.theta.size,
        theta_0=digest(initial.theta),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        layout=initial.layout,
    )
    ledger.create(genesis)
    return OpenRun(genesis, None, initial.theta, np.zeros(initial.theta.size), key, History())


def check_same_run(settings: ServerSettings, ledger: Ledger) -> None:
    """Check that the settings are those of the run that the ledger holds, if it holds one.

    Raises:
        OstrakonError: naming the setting that differs, both values, and what to do.
    """
    genesis = ledger.genesis()
    if genesis is None:
        return
    advice = "resume with the old value, or start a new run under another name"
    now = _identity(settings)
    for name, then in genesis.settings.items():
        if now.get(name) != then:
            raise OstrakonError(
                f"this run was started with {name} = {then!r}, the settings now say {now.get(name)!r}: {advice}"
            )
    if settings.initial.exists() and (found := digest(read_model(settings.initial).theta)) != genesis.theta_0:
        raise OstrakonError(
            f"this run was started from model {genesis.theta_0[:12]}, initial = {settings.initial} holds "
            f"{found[:12]}: {advice}"
        )


def _identity(settings: ServerSettings) -> dict[str, Any]:
    """What must stay as it is; a rule that is written in another way is the same rule."""
    return {**settings.identity(), "rule": rule(settings.rule).name}
