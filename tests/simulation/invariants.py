"""I1 to I9, checked as things happen and from what is seen outside: what was sent, what was heard, what is durable.

Nothing here asks the server what it thinks it did, but for two things that only it can know: when an event reached its
round, and when it formed the candidates.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ostrakon.common.aggregation import Rule
from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Choice
from ostrakon.common.digest import digest
from ostrakon.common.identity import Identity
from ostrakon.common.wire import MOST_OPEN_CALLS, Vector
from ostrakon.server.core import round as rounds
from ostrakon.server.core.aggregator import Aggregator
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.storage.ledger import Entry
from ostrakon.server.storage.model_store import ModelKey
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.simulation.disk import Disk, MemoryStore
from tests.simulation.history import History
from tests.simulation.network import Served
from tests.simulation.scenario import EXPLOSIVE, Scenario

CHOICES: dict[int, Choice] = {pb.CHOICE_INNER: "inner", pb.CHOICE_OUTER: "outer"}


@dataclass(frozen=True)
class Violation:
    """The first promise that was broken."""

    invariant: str  # "I1" to "I9"
    sentence: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}"


@dataclass
class Record:
    """What was seen of one round under one term."""

    seats: tuple[str, ...]  # members that count toward quorums
    revoked: frozenset[str]
    accepted: dict[str, str] = field(default_factory=dict)  # member -> digest
    votes: dict[str, Choice] = field(default_factory=dict)
    candidates: tuple[str | None, ...] | None = None  # recomputed
    offered: str | None = None  # hash of the entry


class Invariants:
    """Watches one simulation; `violation` is the first that it saw."""

    def __init__(self, scenario: Scenario, rule: Rule, theta_0: Vector, disk: Disk, history: History) -> None:
        self.violation: Violation | None = None
        self.holders: Callable[[str], list[str]] = lambda digest: []  # honest workers that have a model in memory
        self.outnumbered = False  # more than f lied or were missing in a round: nothing is promised of the model
        self._scenario = scenario
        self._rule = rule
        self._disk = disk
        self._history = history
        self._models = {digest(theta_0): theta_0}
        self._sums = {0: np.zeros(theta_0.size)}  # by round
        self._chain: list[Entry] = []
        self._records: dict[tuple[int, int], Record] = {}  # by term and round
        self._sent_votes: set[tuple[str, int, int, str]] = set()
        self._sent_vectors: set[tuple[str, int, int, str]] = set()
        self._vectors: dict[str, bytes] = {}  # by digest
        self._told: dict[int, str] = {}  # round -> hash

    def violated(self, invariant: str, sentence: str) -> None:
        """Note a broken promise."""
        if self.violation is None:
            self.violation = Violation(invariant, sentence)
            self._history.note(f"VIOLATION {self.violation}")

    def _expect(self, holds: bool, invariant: str, sentence: str) -> None:
        if not holds:
            self.violated(invariant, sentence)

    # What callers say and hear.

    def said(self, caller: Identity, message: Any, data: bytes) -> None:
        """A caller sends a vote, or the next part of an upload whose bytes so far are `data`."""
        term, round = message.stamp.term, message.stamp.round
        if isinstance(message, pb.VoteRequest):
            self._sent_votes.add((caller.id, term, round, CHOICES.get(message.choice, "")))
        elif isinstance(message, pb.MomentumPart):
            self._sent_vectors.add((caller.id, term, round, message.header.digest))
            if len(data) == 4 * self._scenario.d:
                self._vectors[digest(np.frombuffer(data, dtype=np.uint8))] = data

    def hear(self, caller: Identity, kind: str, message: Any) -> None:
        """A caller hears something."""
        if isinstance(message, pb.VoteResponse):
            self._told_commit(caller, message.commit)
        elif isinstance(message, pb.ModelPart):
            header = message.header
            if header.HasField("decided"):
                self._told_commit(caller, header.decided)
                return
            self._told_head(caller, header.head)
            if kind == "broadcast" and self._disk.holds(header.head.round, header.head.hash):
                committed = self._winner(header.head.round)
                what = f"{caller.id} is sent {header.digests[0][:8]} as the model of round {header.head.round}"
                self._expect(list(header.digests) == [committed], "I4", f"{what}, committed is {committed[:8]}")
                over = header.phase == pb.RUN_PHASE_COMPLETED
                self._expect(
                    not over or header.head.round == self._scenario.rounds, "I4", f"{caller.id}: over too early"
                )
            if kind == "propose":
                record = self._records.get((message.stamp.term, header.head.round + 1))
                known = [one for one in (record.candidates if record else None) or () if one is not None]
                self._expect(list(header.digests) == known, "I3", f"{caller.id} is shown what was never formed")

    def _told_commit(self, caller: Identity, commit: pb.Commit) -> None:
        self._told_head(caller, commit.head)
        if self._disk.holds(commit.head.round, commit.head.hash) and commit.head.round:
            entry = self._disk.entries[commit.head.round - 1]
            told, committed = (commit.digest, CHOICES.get(commit.winner)), (entry.winner, entry.choice)
            self._expect(told == committed, "I4", f"{caller.id} is told that {told} won, the ledger says {committed}")

    def _told_head(self, caller: Identity, head: pb.Head) -> None:
        known = self._told.setdefault(head.round, head.hash)
        self._expect(
            self._disk.holds(head.round, head.hash),
            "I4",
            f"{caller.id} is told of entry {head.hash[:8]} of round {head.round}, which is not in the ledger",
        )
        self._expect(known == head.hash, "I1", f"{caller.id} is told of another entry of round {head.round}")

    def _winner(self, round: int) -> str:
        if round:
            return self._disk.entries[round - 1].winner
        return "" if self._disk.genesis is None else self._disk.genesis.theta_0

    # What the server does.

    def happens(self, state: Coordinator, event: rounds.Event) -> None:
        """An event reaches the round of a server."""
        record = self._open(state)
        number, phase = state.round.number, state.round.phase
        match event:
            case rounds.Uploaded(member, _, digest) if phase is rounds.Phase.COLLECTING:
                sent = (member, state.term, number, digest)
                self._expect(sent in self._sent_vectors, "I6", f"{member} never sent {digest[:8]} for round {number}")
                self._expect(self._counts(member, record), "I6", f"the vector of {member}, no member, is counted")
                self._expect(member not in record.accepted, "I6", f"{member} has two vectors in round {number}")
                record.accepted.setdefault(member, digest)
                self._history.note(f"{state.term}: round {number} has the vector {digest[:8]} of {member}")
            case rounds.Voted(member, ballot) if phase is rounds.Phase.VOTING:
                sent = (member, state.term, number, ballot.choice)
                self._expect(sent in self._sent_votes, "I6", f"{member} never voted {ballot.choice} in round {number}")
                self._expect(self._counts(member, record), "I6", f"the vote of {member}, no member, is counted")
                self._expect(member not in record.votes, "I6", f"{member} has two votes in round {number}")
                record.votes.setdefault(member, ballot.choice)
                self._history.note(f"{state.term}: round {number} has the vote {ballot.choice} of {member}")

    def aggregating(self, state: Coordinator, members: list[str], f: int) -> None:
        """A server forms the candidates from these members' rows: form them here too."""
        scenario, record, number = self._scenario, self._open(state), state.round.number
        self._expect(
            members == [member for member in scenario.roster if member in record.accepted],
            "I6",
            f"round {number} is formed of {members}, accepted were {sorted(record.accepted)}",
        )
        silent = len(record.seats) - len(record.accepted)
        bound = scenario.f if scenario.asynchronous else scenario.f - silent
        needed = scenario.submissions_needed(len(record.seats))
        self._expect(len(record.accepted) >= needed, "I7", f"round {number} has no quorum")
        self._expect(f == bound, "I9", f"round {number} is formed with f = {f}, not {bound}")
        if silent + len(scenario.liars & record.accepted.keys()) > scenario.f:
            self.outnumbered = True
        if self.violation is None:
            record.candidates = self._form(state.round.base, record, bound)

    def _form(self, base: str, record: Record, f: int) -> tuple[str | None, ...]:
        scenario = self._scenario
        fresh = Aggregator(self._rule, scenario.n, scenario.d, torch.device("cpu"))
        positions = [scenario.roster.index(member) for member in scenario.roster if member in record.accepted]
        for position in positions:
            data = self._vectors[record.accepted[scenario.roster[position]]]
            fresh.row(position)[:] = np.frombuffer(data, dtype=np.float32)
        candidates = fresh.candidates(self._models[base], positions, f, Step(scenario.gamma))
        self._models |= {one.digest: one.theta for one in candidates if one is not None}
        return tuple(None if one is None else one.digest for one in candidates)

    def diverged(self, round: int) -> None:
        """A server ended the run because the model has blown up."""
        self._history.note(f"the run ends as diverged in round {round}", "diverged")
        blown_up = self.outnumbered or self._scenario.gamma == EXPLOSIVE
        self._expect(blown_up, "I8", f"the run diverged in round {round}, with f liars or fewer in every round")

    def came_back(self, round: int, theta: Vector) -> None:
        """A server that had lost the model of this round takes this one for it."""
        committed = self._models[self._winner(round)]
        self._history.note(f"the model of round {round} came back", "model came back")
        self._expect(theta.tobytes() == committed.tobytes(), "I4", f"another model came back as that of round {round}")

    def ended_without_a_model(self, digest: str, round: int, why: str) -> None:
        """A server stops to look for a model that it has lost."""
        if "do not hold it" in why:
            holders = self.holders(digest)
            self._history.note(f"the model of round {round} is given up", "model given up")
            self._expect(not holders, "I8", f"the model of round {round} is given up, but {', '.join(holders)} hold it")

    # What is durable.

    def offered(self, entry: Entry) -> None:
        """A server tries to commit an entry."""
        record = self._records[entry.term, entry.round]
        record.offered = record.offered or entry.hash
        self._expect(record.offered == entry.hash, "I1", f"term {entry.term} decides round {entry.round} twice")

    def committed(self, entry: Entry) -> None:
        """The ledger has a new entry."""
        number, record = entry.round, self._records[entry.term, entry.round]
        self._history.note(f"{entry.term}: round {number} is committed: {entry.choice} {entry.winner[:8]}", "committed")
        self._expect(
            entry.term == self._disk.largest_term,
            "I5",
            f"term {entry.term} commits round {number} after a larger was drawn",
        )
        self._expect(
            number == len(self._chain) + 1, "I1", f"round {number} is committed after round {len(self._chain)}"
        )
        genesis = self._disk.genesis
        assert genesis is not None
        before = (self._chain[-1].winner, self._chain[-1].hash) if self._chain else (genesis.theta_0, genesis.hash)
        self._expect((entry.base, entry.previous) == before, "I2", f"entry {number} does not build on the one before")
        self._chain.append(entry)
        if record.candidates is None:
            self.violated("I7", f"round {number} is committed without candidates")
            return
        self._expect(entry.winner in record.candidates, "I3", f"the winner of round {number} was no candidate")
        formed = (*record.candidates, None)[:2]
        self._expect(
            (entry.inner, entry.outer) == formed,
            "I9",
            f"the candidates of round {number} do not follow from what was accepted",
        )
        counted = {vote.worker: vote.choice for vote in entry.votes}
        self._expect(
            counted == record.votes and len(counted) == len(entry.votes),
            "I6",
            f"the votes of round {number} are not those cast",
        )
        self._check_winner(entry, record)
        self._sums[number] = self._sums[number - 1] + self._models[entry.winner]
        self._expect(
            entry.running_sum == digest(self._sums[number]), "I9", f"the running sum of round {number} is wrong"
        )
        key = ModelKey(entry.winner, entry.running_sum)
        self._expect(
            MemoryStore.name(key) in self._disk.files, "I4", f"round {number} is committed before its model is durable"
        )
        self._expect(set(entry.revoked) == record.revoked, "I9", f"round {number} names others as revoked than it had")
        if entry.thin:
            self._history.happened["thin round"] += 1

    def _check_winner(self, entry: Entry, record: Record) -> None:
        """The vote once more, from the votes alone."""
        scenario, number = self._scenario, entry.round
        assert record.candidates is not None
        finite = {choice: one for choice, one in zip(("inner", "outer"), record.candidates, strict=False) if one}
        inner = sum(choice == "inner" for choice in record.votes.values())
        outer = len(record.votes) - inner
        if len(set(finite.values())) == 2:
            n = len(record.seats)
            decided = abs(inner - outer) > n - inner - outer or inner + outer >= n - scenario.f
            self._expect(decided, "I7", f"round {number} is committed with {inner} votes against {outer}")
            winner = finite["outer" if outer > inner else "inner"]
            self._history.happened["tie" if inner == outer else "vote"] += 1
            self._history.happened[f"{entry.choice} wins a vote"] += 1
            if n - inner - outer + len(scenario.liars & record.votes.keys()) > scenario.f:
                self.outnumbered = True
        else:
            winner = next(iter(finite.values()), "")
        self._expect(
            entry.winner == winner,
            "I9",
            f"round {number}: {inner} votes against {outer} make {winner[:8]} the winner, not {entry.winner[:8]}",
        )

    def deleting(self, names: set[str]) -> None:
        """Model files are about to be deleted."""
        if self._disk.entries:
            head = self._disk.entries[-1]
            name = MemoryStore.name(ModelKey(head.winner, head.running_sum))
            self._expect(name not in names, "I4", f"the model of round {head.round}, the last one, is deleted")

    # After every step, and at the end.

    def check_bounds(self, servers: Iterable[Served]) -> None:
        """I8: what callers can make a server hold."""
        for served in servers:
            calls = max(served.calls.quota._open.values(), default=0)
            uploads = len(served.state.uploads)
            readers = len(served.state.readers) if isinstance(served.state, Coordinator) else 0
            if calls > MOST_OPEN_CALLS:
                self.violated("I8", f"somebody has {calls} calls open")
            if uploads > self._scenario.n:
                self.violated("I8", f"{uploads} uploads are open")
            if readers > self._scenario.n + 1:
                self.violated("I8", f"{readers} streams of models are open")

    def finish(self) -> None:
        """What must be true when everything is dead."""
        for round, hash in self._told.items():
            self._expect(self._disk.holds(round, hash), "I4", f"round {round}, that workers were told of, is gone")
        self._expect(self._chain == self._disk.entries, "I1", "the ledger is not what was committed")
        if self._chain:
            key = ModelKey(self._chain[-1].winner, self._chain[-1].running_sum)
            there = self._disk.files.keys() | self._disk.backup
            self._expect(MemoryStore.name(key) in there, "I4", "the last model is gone")

    def _open(self, state: Coordinator) -> Record:
        """The record of the round that a server decides; begun when something first happens in it."""
        number, revoked = state.round.number, state.round.revoked
        record = self._records.get((state.term, number))
        if record is None:
            record = Record(self._scenario.seats(revoked), revoked)
            self._records[state.term, number] = record
            before = set(self._chain[number - 2].revoked) if 1 < number <= len(self._chain) + 1 else set()
            self._expect(before <= revoked <= self._scenario.liars, "I6", f"{sorted(revoked)} are shut out of {number}")
        return record

    def _counts(self, member: str, record: Record) -> bool:
        return member in self._scenario.roster and member not in record.revoked
