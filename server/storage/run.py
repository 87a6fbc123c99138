"""Where a run starts or goes on: the genesis entry of a new one, the head of a known one."""

import uuid
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from ostrakon.common.aggregation import rule
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import write_fixed_part
from ostrakon.common.identity import Identity
from ostrakon.common.layout import difference
from ostrakon.common.model_file import read_model
from ostrakon.common.run_files import CONSTANTS, LAST, LEDGER, METRICS, MODELS
from ostrakon.common.wire import Vector
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.history import History
from ostrakon.server.storage.ledger import Entry, Genesis, Ledger
from ostrakon.server.storage.model_store import Key, ModelStore, initial_key
from ostrakon.server.storage.parentage import parent_of

log = structlog.get_logger()

ROUND_EVENT = b'{"event": "round"'  # how a committed round's line of the metrics begins

_NO_MODEL = np.empty(0, dtype=np.float32)
_NO_SUM = np.empty(0)


@dataclass
class OpenRun:
    """A run, ready for its next round.

    `theta` is (d,) float32; `running_sum` is theta_1 + ... + theta_t, (d,) float64; `key` names both on disk; `kept`
    are the last committed models that are stored, this one included and last.
    """

    genesis: Genesis
    head: Entry | None
    theta: Vector
    running_sum: NDArray[np.float64]
    key: Key
    history: History
    kept: list[Key]

    @property
    def revoked(self) -> frozenset[Identity]:
        """The members that were shut out of the last committed round: no list is needed to keep them out."""
        return frozenset() if self.head is None else frozenset(Identity("worker", m) for m in self.head.revoked)

    @property
    def head_hash(self) -> str:
        """What the next entry names as its previous one."""
        return self.genesis.hash if self.head is None else self.head.hash


class ModelLost(OstrakonError):
    """The head's model is on the disk no more, or damaged: a worker may hold it. The sentence says what was found.

    Attributes:
        run: the run without its model; `theta` and `running_sum` are empty.
    """

    def __init__(self, run: OpenRun, store: ModelStore, before: NDArray[np.float64] | None, sentence: str) -> None:
        """`before` is the sum that theta is to be added to; None: `run.running_sum` is the whole one."""
        super().__init__(sentence)
        self.run = run
        self._store = store
        self._before = before

    def found(self, theta: Vector) -> OpenRun:
        """The run with its model, (d,) float32, which is written anew.

        Raises:
            OstrakonError: this is not the model; there is no space left, or the folder cannot be written.
        """
        running_sum = self.run.running_sum if self._before is None else self._before + theta
        self._store.write_again(self.run.key, theta, running_sum)
        return replace(self.run, theta=theta, running_sum=running_sum)


def open_run(settings: ServerSettings, ledger: Ledger, store: ModelStore) -> OpenRun:
    """Start a new run from `settings.initial`, or go on with the one that the ledger holds.

    Raises:
        ModelLost: the model that was committed last is nowhere on the disk, but a worker's would do.
        OstrakonError: the settings differ from those the run was started with; what is there cannot be used.
    """
    genesis = ledger.genesis()
    if genesis is None:
        return _begin(settings, ledger, store)
    check_same_run(settings, ledger)
    history = History()
    head: Entry | None = None
    recent = deque([initial_key(genesis.theta_0, genesis.parameters)], settings.keep_models)
    before = recent[-1]  # the key of theta_{t-1}
    for head in ledger.entries():
        history.add(head)
        before = recent[-1]
        recent.append(Key(head.winner, head.running_sum))
    key = recent[-1]
    kept = [one for one in recent if one == key or store.path(one).exists()]
    run = OpenRun(genesis, head, _NO_MODEL, _NO_SUM, key, history, kept)
    try:
        stored = store.read(key)
    except OstrakonError as damage:
        return _recover(settings, run, store, before, str(damage))
    return replace(run, theta=stored.theta, running_sum=stored.running_sum)


def _recover(settings: ServerSettings, run: OpenRun, store: ModelStore, before: Key, damage: str) -> OpenRun:
    """The run whose head's file is `damage`d, with what else is on the disk; `before` is the model before it.

    Raises:
        ModelLost: there is everything but theta.
        OstrakonError: there is not even a running sum.
    """
    sum_before: NDArray[np.float64] | None = None
    known = store.running_sum(run.key)
    d, round = run.genesis.parameters, 0 if run.head is None else run.head.round
    if known is None and round == 0:
        known = np.zeros(d)
    elif known is None:
        sum_before = np.zeros(d) if round == 1 else store.running_sum(before)
        if sum_before is None:
            raise OstrakonError(
                f"{damage}. The workers' memory alone does not help: the sum of all models so far is lost too, since "
                f"{store.path(before)} of the round before is missing or damaged as well"
            )
    lost = ModelLost(replace(run, running_sum=_NO_SUM if known is None else known), store, sum_before, damage)
    theta = store.theta(run.key.digest)
    for path in (settings.directory / LAST, settings.initial):
        if theta is None:
            theta = _theta_in(path, run.key.digest)
    if theta is None:
        raise lost
    log.warning("recovered the committed model from the disk", round=round, digest=run.key.digest, because=damage)
    return lost.found(theta)


def _theta_in(path: Path, name: str) -> Vector | None:
    """The model in a model file, if it is whole and has this digest."""
    try:
        theta = read_model(path).theta
    except OstrakonError:
        return None
    return theta if digest(theta) == name else None


def _begin(settings: ServerSettings, ledger: Ledger, store: ModelStore) -> OpenRun:
    initial = read_model(settings.initial)
    task = initial.metadata.get("task")
    if task != settings.task:
        raise OstrakonError(
            f"initial model {settings.initial} was made for task {task}, this run's task is {settings.task}: "
            "write it with `python -m ostrakon.worker init` and the run's task"
        )
    check_nothing_lost(settings, store)
    if initial.fixed:
        write_fixed_part(settings.directory / CONSTANTS, initial.fixed)
    key = store.write(initial.theta, None)  # durable before the genesis that names it
    genesis = Genesis(
        run=str(uuid.uuid4()),
        settings=_identity(settings),
        parameters=initial.theta.size,
        theta_0=digest(initial.theta),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        layout=initial.layout,
        parent=parent_of(initial),
        constants=initial.fixed.digest(),
    )
    ledger.create(genesis)
    return OpenRun(genesis, None, initial.theta, np.zeros(initial.theta.size), key, History(), [key])


def check_ledger_is_there(settings: ServerSettings, store: ModelStore) -> None:
    """Check that a run's ledger is where it was, before a new one is made in its place.

    Raises:
        OstrakonError: naming what a run has left, whose ledger is gone. Nothing is deleted.
    """
    if not _size(settings.directory / LEDGER):
        check_nothing_lost(settings, store)


def check_nothing_lost(settings: ServerSettings, store: ModelStore) -> None:
    """Check, where there is no ledger or an empty one, that no run was ever committed in this folder.

    Raises:
        OstrakonError: naming what a run has left, whose ledger is gone. Nothing is deleted.
    """
    ledger, metrics = settings.directory / LEDGER, settings.directory / METRICS
    # A crash between the first model and the genesis leaves theta_0, and nothing is lost with it.
    theta_0 = read_model(settings.initial).theta if settings.initial.exists() else None
    others = store.others([] if theta_0 is None else [initial_key(digest(theta_0), theta_0.size)])
    if others:
        left = f"{settings.directory / MODELS} holds committed models ({others[-1]})"
    elif metrics.exists() and ROUND_EVENT in metrics.read_bytes():
        left = f"{metrics} tells of committed rounds"
    elif _size(ledger) == 0 < _size(Path(f"{ledger}-wal")):
        left = f"{ledger}-wal is there, a part of it"
    else:
        return
    raise OstrakonError(
        f"{ledger} holds no run, but {left}: the ledger was deleted or emptied. Put it back from a backup, with the "
        "files beside it; for a new run give another directory, or move what is in this one away"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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
    if not settings.initial.exists():
        return
    initial = read_model(settings.initial)
    if other := difference(genesis.layout, initial.layout, f"initial = {settings.initial}"):
        raise OstrakonError(f"{other}: {advice}")
    if (found := digest(initial.theta)) != genesis.theta_0:
        raise OstrakonError(
            f"this run was started from model {genesis.theta_0[:12]}, initial = {settings.initial} holds "
            f"{found[:12]}: {advice}"
        )


def _identity(settings: ServerSettings) -> dict[str, Any]:
    """What must stay as it is; a rule that is written in another way is the same rule."""
    return {**settings.identity(), "rule": rule(settings.rule).name}
