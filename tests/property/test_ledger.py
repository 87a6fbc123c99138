"""Whatever servers try on one ledger, its promises hold (I1, I2, I5)."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from ostrakon.server.storage.ledger import Already, Committed, Entry, Fenced, Unknown
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from tests.harness.ledger_entries import GENESIS, following


class LedgerMachine(RuleBasedStateMachine):
    """Servers come and go over one file; whatever they try, I1, I2 and I5 hold."""

    terms = Bundle("terms")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.sqlite"
        self.ledger = SqliteLedger(self.path)
        self.ledger.create(GENESIS)
        self.largest = 0
        self.committed: list[str] = []  # hashes by round
        self.offered: list[Entry] = []

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @rule(target=terms)
    def draw_term(self) -> int:
        term = self.ledger.draw_term("server")
        assert term > self.largest
        self.largest = term
        return term

    @rule(term=terms, name=st.sampled_from("abc"))
    def commit_the_next_round(self, term: int, name: str) -> None:
        entry = following(self.ledger, term, name)
        self.offered.append(entry)
        if self.ledger.try_commit(entry) == Committed():
            assert term == self.largest  # I5
            self.committed.append(entry.hash)
        else:
            assert term < self.largest

    @precondition(lambda self: self.offered)
    @rule(data=st.data())
    def offer_an_old_entry_again(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.offered))
        try:
            outcome = self.ledger.try_commit(entry)
        except ValueError:  # it follows a head that never was
            return
        match outcome:
            case Fenced(term):
                assert term == self.largest != entry.term
            case Already(there):
                assert there.hash == self.committed[entry.round - 1]
            case Committed():
                assert entry.term == self.largest
                self.committed.append(entry.hash)
            case Unknown():
                raise AssertionError(outcome)

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = SqliteLedger(self.path)

    @invariant()
    def one_chain_from_the_genesis(self) -> None:
        entries = list(self.ledger.entries())
        assert [entry.hash for entry in entries] == self.committed  # I1: nothing committed ever changes
        base, previous = GENESIS.theta_0, GENESIS.hash
        for entry in entries:
            assert (entry.base, entry.previous) == (base, previous)  # I2
            base, previous = entry.winner, entry.hash
        assert [entry.term for entry in entries] == sorted(entry.term for entry in entries)


LedgerMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestWhateverServersTry = LedgerMachine.TestCase
