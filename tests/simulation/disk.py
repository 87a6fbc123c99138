"""A run's disk: the ledger and the model files, which outlive every process that uses them.

`MemoryLedger` and `MemoryStore` are the twins of `SqliteLedger` and `ModelStore` (test_twin.py compares them). The
simulated ones beside them fail as disks do, and die in the middle of what they do.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import Vector
from ostrakon.server.storage.ledger import Already, Committed, Entry, Fenced, Genesis, Tried, Unknown
from ostrakon.server.storage.model_store import ModelKey, Stored, initial_key
from tests.simulation.history import Chance


@dataclass
class Disk:
    """What is durable."""

    genesis: Genesis | None = None
    terms: dict[int, str] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)  # by round, from 1
    hashes: list[str] = field(default_factory=list)  # theirs
    files: dict[str, Stored] = field(default_factory=dict)
    backup: dict[str, Stored] = field(default_factory=dict)  # of files that were lost

    @property
    def largest_term(self) -> int:
        return max(self.terms, default=0)

    def holds(self, round: int, hash: str) -> bool:
        """Whether this is an entry; round 0 is the genesis."""
        if round == 0:
            return self.genesis is not None and self.genesis.hash == hash
        return 0 < round <= len(self.entries) and self.hashes[round - 1] == hash


class MemoryLedger:
    """A `server.storage.ledger.Ledger` on a disk of memory."""

    fenced = True  # whether try_commit asks for the term

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._closed = False

    def genesis(self) -> Genesis | None:
        self._check_readable()
        return self._disk.genesis

    def create(self, genesis: Genesis) -> None:
        self._check_readable()
        if self._disk.genesis is not None:
            raise OstrakonError(f"the ledger holds run {self._disk.genesis.run}")
        self._disk.genesis = genesis

    def draw_term(self, holder: str) -> int:
        self._check_readable()
        term = self._disk.largest_term + 1
        self._disk.terms[term] = holder
        return term

    def terms(self) -> dict[int, str]:
        self._check_readable()
        return dict(self._disk.terms)

    def head(self) -> Entry | None:
        self._check_readable()
        return self._disk.entries[-1] if self._disk.entries else None

    def entry(self, round: int) -> Entry | None:
        self._check_readable()
        return self._disk.entries[round - 1] if 0 < round <= len(self._disk.entries) else None

    def entries(self) -> Iterator[Entry]:
        round = 1
        while (entry := self.entry(round)) is not None:
            yield entry
            round += 1

    def try_commit(self, entry: Entry) -> Tried:
        disk = self._disk
        if self._closed:
            return Unknown("the ledger is closed")
        if self.fenced and entry.term != disk.largest_term:
            return Fenced(disk.largest_term)
        if 0 < entry.round <= len(disk.entries):
            return Already(disk.entries[entry.round - 1])
        if disk.genesis is None:
            raise ValueError("the ledger has no genesis")
        head = disk.entries[-1] if disk.entries else None
        expected = (1, disk.genesis.theta_0, disk.genesis.hash)
        if head is not None:
            expected = (head.round + 1, head.winner, head.hash)
        if (entry.round, entry.base, entry.previous) != expected:
            raise ValueError(f"entry {entry.round} does not follow the head")
        disk.entries.append(entry)
        disk.hashes.append(entry.hash)
        return Committed()

    def exclusively(self, term: int, work: Callable[[], None]) -> int:
        self._check_readable()
        if self._disk.largest_term == term:
            work()
        return self._disk.largest_term

    def close(self) -> None:
        self._closed = True

    def _check_readable(self) -> None:
        if self._closed:
            raise OstrakonError("the ledger is closed")


@dataclass(frozen=True)
class MemoryPath:
    """Where a file lies on a disk of memory."""

    disk: Disk
    name: str

    def exists(self) -> bool:
        return self.name in self.disk.files


class MemoryStore:
    """A `server.model_store.ModelStore` on a disk of memory."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @staticmethod
    def name(key: ModelKey) -> str:
        """What the file of a model is called."""
        return f"{key.digest}.{key.running_sum[:16]}"

    def write(self, theta: Vector, running_sum_before: NDArray[np.float64] | None) -> ModelKey:
        running_sum = np.zeros(theta.shape) if running_sum_before is None else running_sum_before + theta
        key = ModelKey(digest(theta), digest(running_sum))
        if running_sum_before is None:
            key = initial_key(digest(theta), theta.size)
        self._put(self.name(key), Stored(theta.copy(), running_sum))
        return key

    def read(self, key: ModelKey) -> Stored:
        stored = self._disk.files.get(self.name(key))
        if stored is None:
            raise OstrakonError(f"model file {self.name(key)} is missing")
        if (digest(stored.theta), digest(stored.running_sum)) != (key.digest, key.running_sum):
            raise OstrakonError(f"model file {self.name(key)} is damaged")
        return Stored(stored.theta.copy(), stored.running_sum.copy())

    def write_again(self, key: ModelKey, theta: Vector, running_sum: NDArray[np.float64]) -> None:
        self._put(self.name(key), Stored(theta.copy(), running_sum.copy()))

    def path(self, key: ModelKey) -> "MemoryPath":
        return MemoryPath(self._disk, self.name(key))

    def theta(self, name: str) -> Vector | None:
        stored = (stored for file, stored in self._disk.files.items() if file.startswith(f"{name}."))
        return next((one.theta.copy() for one in stored if digest(one.theta) == name), None)

    def running_sum(self, key: ModelKey) -> NDArray[np.float64] | None:
        stored = self._disk.files.get(self.name(key))
        whole = stored is not None and digest(stored.running_sum) == key.running_sum
        return stored.running_sum.copy() if stored is not None and whole else None

    def others(self, keep: Collection[ModelKey]) -> list[str]:
        kept = {self.name(key) for key in keep}
        return sorted(name for name in self._disk.files if name not in kept and not name.startswith("."))

    def delete(self, key: ModelKey) -> None:
        self._disk.files.pop(self.name(key), None)

    def prune(self, keep: Collection[ModelKey]) -> None:
        kept = {self.name(key) for key in keep}
        for name in [name for name in self._disk.files if name not in kept]:
            del self._disk.files[name]

    def _put(self, name: str, stored: Stored) -> None:
        self._disk.files[name] = stored


@dataclass
class Owner:
    """The process that uses the disk: `die` kills it in the middle of what it does and does not return."""

    name: str
    die: Callable[[], Any]


class SimulatedLedger(MemoryLedger):
    """All or nothing, but who asked may die before it hears, or hear that nothing is known."""

    def __init__(
        self,
        disk: Disk,
        owner: Owner,
        chance: Chance,
        *,
        later: Callable[[Callable[[], Any]], Any],
        offered: Callable[[Entry], None],
        committed: Callable[[Entry], None],
    ) -> None:
        """`later` does something at a later time; the two others hear of every try and of every new entry."""
        super().__init__(disk)
        self._owner = owner
        self._chance = chance
        self._later = later
        self._offered = offered
        self._committed = committed

    def create(self, genesis: Genesis) -> None:
        self._may_die("killed before the genesis")
        super().create(genesis)
        self._may_die("killed after the genesis")

    def draw_term(self, holder: str) -> int:
        term = super().draw_term(holder)
        self._may_die("killed after drawing a term")
        return term

    def try_commit(self, entry: Entry) -> Tried:
        self._offered(entry)
        self._may_die("killed between file and entry")
        if self._chance.strikes("unknown, not committed", self._owner.name):
            return Unknown("the disk did not answer")
        if self._chance.strikes("unknown, committed later", self._owner.name):
            self._later(lambda: self._commit(entry))
            return Unknown("the disk did not answer yet")
        outcome = self._commit(entry)
        if isinstance(outcome, Committed):
            self._may_die("killed between entry and announcement")
            if self._chance.strikes("unknown, committed", self._owner.name):
                return Unknown("the disk did not answer any more")
        return outcome

    def _commit(self, entry: Entry) -> Tried:
        before = len(self._disk.entries)
        outcome = super().try_commit(entry)
        if len(self._disk.entries) > before:
            self._committed(entry)
        return outcome

    def _check_readable(self) -> None:
        super()._check_readable()
        if self._chance.strikes("ledger cannot be read", self._owner.name):
            raise OstrakonError("the ledger cannot be read: the disk did not answer")

    def _may_die(self, fault: str) -> None:
        if self._chance.strikes(fault, self._owner.name):
            self._owner.die()


class SimulatedStore(MemoryStore):
    """Files that were not synced are gone when their writer is; sometimes there is no space left."""

    def __init__(
        self, disk: Disk, owner: Owner, chance: Chance, rng: Random, *, deleting: Callable[[set[str]], None]
    ) -> None:
        """`deleting` hears the names of files that are about to be deleted."""
        super().__init__(disk)
        self._owner = owner
        self._chance = chance
        self._rng = rng
        self._deleting = deleting

    def delete(self, key: ModelKey) -> None:
        if self._chance.strikes("killed before a file is deleted", self._owner.name):
            self._owner.die()
        self._deleting({self.name(key)} & self._disk.files.keys())
        super().delete(key)

    def prune(self, keep: Collection[ModelKey]) -> None:
        self._deleting(self._disk.files.keys() - {self.name(key) for key in keep})
        super().prune(keep)

    def _put(self, name: str, stored: Stored) -> None:
        if self._chance.strikes("disk full", self._owner.name):
            raise OstrakonError(f"no space left for {name}")
        if self._chance.strikes("killed while a file is written", self._owner.name):
            if self._rng.random() < 0.5:
                temporary = hashlib.sha256(f"{name} {self._rng.random()}".encode()).hexdigest()[:8]
                self._disk.files[f".{name}.{temporary}"] = Stored(stored.theta[:0], stored.running_sum[:0])
            self._owner.die()
        super()._put(name, stored)
        if self._chance.strikes("killed after a file is written", self._owner.name):
            self._owner.die()
