"""The simulated disk does what the real one does, whatever is asked of both."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ostrakon.common.errors import OstrakonError
from ostrakon.server.storage.ledger import Entry
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelKey, ModelStore
from tests.harness.ledger_entries import GENESIS, following
from tests.simulation.disk import Disk, MemoryLedger, MemoryStore


def outcome(deed: Callable[[], Any]) -> str:
    """What came of something, in words: an entry may hold NaN, which differs from itself, and sentences differ."""
    try:
        found = deed()
    except (OstrakonError, ValueError) as error:
        return type(error).__name__
    entry = getattr(found, "entry", found)
    what = entry.hash if hasattr(entry, "hash") else getattr(found, "term", "")
    return f"{type(found).__name__} {what if what or hasattr(found, '__dict__') else found}"


class Ledgers(RuleBasedStateMachine):
    """Two servers with a ledger each, on one disk, and their twins: begin, draw, commit, offer again, close, reopen."""

    who = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.sqlite"
        self.disk = Disk()
        self.pairs = [self.opened(), self.opened()]
        self.offered: list[Entry] = []

    def opened(self) -> tuple[SqliteLedger, MemoryLedger]:
        return SqliteLedger(self.path), MemoryLedger(self.disk)

    def teardown(self) -> None:
        for real, _ in self.pairs:
            real.close()
        self.folder.cleanup()

    def both(self, who: int, deed: Callable[[Any], Any]) -> None:
        real, twin = self.pairs[who]
        assert outcome(lambda: deed(real)) == outcome(lambda: deed(twin))

    @rule(who=who)
    def create(self, who: int) -> None:
        self.both(who, lambda ledger: ledger.create(GENESIS))

    @rule(who=who)
    def draw_term(self, who: int) -> None:
        self.both(who, lambda ledger: ledger.draw_term("server"))

    @rule(who=who, term=st.integers(0, 4), name=st.sampled_from("abc"))
    def commit(self, who: int, term: int, name: str) -> None:
        try:
            self.offered.append(following(self.pairs[who][0], term, name))
        except (OstrakonError, AttributeError, AssertionError):
            return  # closed, or not begun
        self.both(who, lambda ledger: ledger.try_commit(self.offered[-1]))

    @rule(who=who, index=st.integers(0, 30))
    def offer(self, who: int, index: int) -> None:
        if self.offered:
            self.both(who, lambda ledger: ledger.try_commit(self.offered[index % len(self.offered)]))

    @rule(who=who, term=st.integers(0, 4))
    def exclusively(self, who: int, term: int) -> None:
        done: list[Any] = []
        self.both(who, lambda ledger: ledger.exclusively(term, lambda: done.append(ledger)))
        assert len(done) in (0, 2)

    @rule(who=who, round=st.integers(-1, 6))
    def read(self, who: int, round: int) -> None:
        self.both(who, lambda ledger: ledger.entry(round))
        self.both(who, lambda ledger: ledger.head())
        self.both(who, lambda ledger: ledger.genesis())
        self.both(who, lambda ledger: ledger.terms())

    @rule(who=who)
    def close(self, who: int) -> None:
        for ledger in self.pairs[who]:
            ledger.close()

    @rule(who=who)
    def reopen(self, who: int) -> None:
        self.close(who)
        self.pairs[who] = self.opened()

    @invariant()
    def the_disk_holds_the_same(self) -> None:
        real, twin = self.opened()
        assert [entry.hash for entry in real.entries()] == [entry.hash for entry in twin.entries()]
        assert real.terms() == twin.terms()
        real.close()


class Stores(RuleBasedStateMachine):
    """Models are written, read, looked for, deleted and pruned, some of them of zeros."""

    values = st.sampled_from([-1.0, 0.0, 0.0, 2.0])

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.real, self.twin = ModelStore(Path(self.folder.name)), MemoryStore(Disk())
        self.keys: list[ModelKey] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(value=values, before=st.one_of(st.none(), values))
    def write(self, value: float, before: float | None) -> None:
        theta = np.full(3, value, dtype=np.float32)
        running_sum = None if before is None else np.full(3, before)
        key = self.real.write(theta, running_sum)
        assert self.twin.write(theta, running_sum) == key
        self.keys.append(key)

    @rule(index=st.integers(0, 30))
    def read(self, index: int) -> None:
        def found(store: Any, key: ModelKey) -> Any:
            stored = store.read(key)
            return stored.theta.tolist(), stored.running_sum.tolist()

        for key in self.keys[index : index + 1]:
            assert outcome(partial(found, self.real, key)) == outcome(partial(found, self.twin, key))

    @rule(index=st.integers(0, 30))
    def delete(self, index: int) -> None:
        for key in self.keys[index : index + 1]:
            self.real.delete(key)
            self.twin.delete(key)

    @rule(kept=st.sets(st.integers(0, 10)))
    def prune(self, kept: set[int]) -> None:
        keep = [key for index, key in enumerate(self.keys) if index in kept]
        self.real.prune(keep)
        self.twin.prune(keep)

    @invariant()
    def both_hold_the_same(self) -> None:
        for key in self.keys:
            assert self.real.path(key).exists() == self.twin.path(key).exists()
            for found in ("theta", "running_sum"):
                asked = key.digest if found == "theta" else key
                mine, its = getattr(self.real, found)(asked), getattr(self.twin, found)(asked)
                assert (mine is None) == (its is None) and (mine is None or mine.tolist() == its.tolist())


for machine in (Ledgers, Stores):
    machine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestTheLedgerIsTheRealOnesTwin = Ledgers.TestCase
TestTheStoreIsTheRealOnesTwin = Stores.TestCase
