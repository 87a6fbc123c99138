"""The simulation's ledger does what the real one does, whatever is asked of both."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.ledger import Entry
from server.ledger.sqlite import SqliteLedger
from tests.simulation.disk import Disk, MemoryLedger
from tests.unit.test_ledger import GENESIS, following


class Twins(RuleBasedStateMachine):
    """Servers draw terms, commit, offer old and wrong entries, and open their ledgers anew."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.sqlite"
        self.disk = Disk()
        self.real, self.twin = SqliteLedger(self.path), MemoryLedger(self.disk)
        self.offered: list[Entry] = []
        for ledger in (self.real, self.twin):
            ledger.create(GENESIS)

    def teardown(self) -> None:
        self.real.close()
        self.folder.cleanup()

    @rule()
    def draw_term(self) -> None:
        assert self.real.draw_term("server") == self.twin.draw_term("server")

    @rule(term=st.integers(0, 4), name=st.sampled_from("abc"))
    def commit(self, term: int, name: str) -> None:
        self.offered.append(following(self.real, term, name))
        self.offer(len(self.offered) - 1)

    @rule(index=st.integers(0, 30))
    def offer(self, index: int) -> None:
        if self.offered:
            entry = self.offered[index % len(self.offered)]
            assert outcome(self.real, entry) == outcome(self.twin, entry)

    @rule()
    def reopen(self) -> None:
        self.real.close()
        self.real, self.twin = SqliteLedger(self.path), MemoryLedger(self.disk)

    @invariant()
    def both_tell_the_same(self) -> None:
        assert [entry.hash for entry in self.real.entries()] == [entry.hash for entry in self.twin.entries()]
        assert self.real.terms() == self.twin.terms()


def outcome(ledger: SqliteLedger | MemoryLedger, entry: Entry) -> str:
    """What came of an offer, in words: an entry may hold NaN, which differs from itself."""
    try:
        found = ledger.try_commit(entry)
    except ValueError:
        return "does not follow"
    there = getattr(found, "entry", None)
    return f"{type(found).__name__} {there.hash if there else vars(found)}"


Twins.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestTwins = Twins.TestCase
