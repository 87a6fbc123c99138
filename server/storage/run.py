"""Where a run starts or goes on: the genesis entry of a new one, the head of a known one."""

import uuid
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import write_fixed_part
from ostrakon.common.identity import Identity
from ostrakon.common.model_file import read_model
from ostrakon.common.run_files import CONSTANTS, LAST
from ostrakon.common.wire import Vector
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.history import History
from ostrakon.server.storage.initial import Initial, check_same_run, identity
from ostrakon.server.storage.ledger import Entry, Genesis, Ledger
from ostrakon.server.storage.lost_ledger import check_nothing_lost
from ostrakon.server.storage.model_store import ModelKey, ModelStore, initial_key
from ostrakon.server.storage.parentage import parent_of

log = structlog.get_logger()

_NO_MODEL = np.empty(0, dtype=np.float32)
_NO_SUM = np.empty(0)


@dataclass
class OpenRun:
    """A run with all that is committed of it, ready for its next round.

    `theta` is (d,) float32; `running_sum` is theta_1 + ... + theta_t, (d,) float64; `key` names both on disk; `kept`
    are the last committed models that are stored, this one included and last.
    """

    genesis: Genesis
    head: Entry | None
    theta: Vector
    running_sum: NDArray[np.float64]
    key: ModelKey
    history: History
    kept: list[ModelKey]

    @property
    def revoked(self) -> frozenset[Identity]:
        """The members that were shut out of the last committed round: no list is needed to keep them out."""
        return frozenset() if self.head is None else frozenset(Identity("worker", m) for m in self.head.revoked)

    @property
    def round(self) -> int:
        """The last committed round, 0 before the first."""
        return 0 if self.head is None else self.head.round

    @property
    def head_hash(self) -> str:
        """What the next entry names as its previous one."""
        return self.genesis.hash if self.head is None else self.head.hash

    @property
    def digest(self) -> str:
        """Of theta."""
        return self.key.digest

    def average(self) -> Vector:
        """The average of the committed iterates theta_1..theta_t, (d,) float32; theta_0 before the first commit."""
        if self.head is None:
            return self.theta
        average: Vector = (self.running_sum / self.head.round).astype("float32")
        return average

    def adopt(self, entry: Entry, theta: Vector) -> None:
        """An entry is durable: it is the head now, and `theta`, (d,) float32, the model of its winner."""
        self.head, self.theta = entry, theta
        self.running_sum += theta  # in float64, the same sum that the winner's file holds
        self.key = ModelKey(entry.winner, entry.running_sum)
        self.kept.append(self.key)
        self.history.add(entry)


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


def open_run(settings: ServerSettings, initial: Initial, ledger: Ledger, store: ModelStore) -> OpenRun:
    """Start a new run from theta_0, or go on with the one that the ledger holds.

    Raises:
        ModelLost: the model that was committed last is nowhere on the disk, but a worker's would do.
        OstrakonError: the settings differ from those the run was started with; what is there cannot be used.
    """
    genesis = ledger.genesis()
    if genesis is None:
        return _begin(settings, initial, ledger, store)
    check_same_run(settings, initial, genesis)
    history = History()
    head: Entry | None = None
    recent = deque([initial_key(genesis.theta_0, genesis.parameters)], settings.keep_models)
    before = recent[-1]  # the key of theta_{t-1}
    for head in ledger.entries():
        history.add(head)
        before = recent[-1]
        recent.append(ModelKey(head.winner, head.running_sum))
    key = recent[-1]
    kept = [one for one in recent if one == key or store.path(one).exists()]
    run = OpenRun(genesis, head, _NO_MODEL, _NO_SUM, key, history, kept)
    try:
        stored = store.read(key)
    except OstrakonError as damage:
        return _recover(settings, run, store, before, str(damage))
    return replace(run, theta=stored.theta, running_sum=stored.running_sum)


def _recover(settings: ServerSettings, run: OpenRun, store: ModelStore, before: ModelKey, damage: str) -> OpenRun:
    """The run whose head's file is `damage`d, with what else is on the disk; `before` is the model before it.

    Raises:
        ModelLost: there is everything but theta.
        OstrakonError: there is not even a running sum.
    """
    sum_before: NDArray[np.float64] | None = None
    known = store.running_sum(run.key)
    d, round = run.genesis.parameters, run.round
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


def _begin(settings: ServerSettings, initial: Initial, ledger: Ledger, store: ModelStore) -> OpenRun:
    model = initial.model
    task = model.metadata.get("task")
    if task != settings.learns:
        raise OstrakonError(
            f"initial model {initial.path} was made for task {task}, this run's task is {settings.learns}: "
            "write it with `ostrakon init` and the run's task and options"
        )
    check_nothing_lost(settings.directory, store, initial)
    if model.fixed:
        write_fixed_part(settings.directory / CONSTANTS, model.fixed)
    key = store.write(model.theta, None)  # durable before the genesis that names it
    genesis = Genesis(
        run=str(uuid.uuid4()),
        settings=identity(settings),
        parameters=model.theta.size,
        theta_0=initial.digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        layout=model.layout,
        parent=parent_of(model),
        constants=model.fixed.digest(),
    )
    ledger.create(genesis)
    return OpenRun(genesis, None, model.theta, np.zeros(model.theta.size), key, History(), [key])
