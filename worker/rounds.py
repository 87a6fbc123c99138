"""A worker's round as a pure state machine: receive, train, submit, judge, vote, adopt.

`Rounds.next(event)` takes what happened and says what to do next; the session does it. No clock, no socket, no torch.
"""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["completed", "diverged"]

# Statuses, by gRPC's names, after which the same call may succeed later.
UNREACHABLE = frozenset({"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "RESOURCE_EXHAUSTED"})
# Reasons of a FAILED_PRECONDITION that a new Join may mend: another server, or a restarted one, is answering.
REJOIN = frozenset({"wrong term", "not joined"})
# Reasons after which the current model has to be asked for: the others went on without us.
OVERTAKEN = frozenset({"wrong round", "wrong base", "model replaced"})
# Reasons that no retry mends: this worker must end and say why.
FATAL = frozenset(
    {"wrong protocol", "wrong run", "older session", "different task", "different model", "different digest"}
)


# What to do next.


@dataclass(frozen=True)
class Join:
    """Introduce yourself."""


@dataclass(frozen=True)
class Receive:
    """Ask for the model of a round larger than `after`."""

    after: int


@dataclass(frozen=True)
class Train:
    """Compute the momentum at the model `base`."""

    round: int
    base: str


@dataclass(frozen=True)
class Submit:
    """Send the momentum of this round."""

    round: int
    base: str


@dataclass(frozen=True)
class Inspect:
    """Ask for both candidates of this round and judge them."""

    round: int


@dataclass(frozen=True)
class Vote:
    """Send the ballot of this round."""

    round: int


@dataclass(frozen=True)
class Again:
    """Do the same once more, after a back-off that grows with `attempt` = 0, 1, ..."""

    attempt: int


@dataclass(frozen=True)
class End:
    """The run is over."""

    outcome: Outcome


@dataclass(frozen=True)
class GiveUp:
    """This worker cannot take part; say why."""

    sentence: str


Action = Join | Receive | Train | Submit | Inspect | Vote | Again | End | GiveUp


# What happened.


@dataclass(frozen=True)
class Joined:
    """The server let us in."""

    term: int
    two_phase: bool


@dataclass(frozen=True)
class Received:
    """The model to start `round` from is here, or the run is over."""

    round: int
    base: str
    outcome: Outcome | None


@dataclass(frozen=True)
class Trained:
    """The momentum is ready."""


@dataclass(frozen=True)
class Submitted:
    """The server has our momentum."""


@dataclass(frozen=True)
class Judged:
    """The ballot is ready."""


@dataclass(frozen=True)
class Decided:
    """The round is committed."""

    round: int


@dataclass(frozen=True)
class Failed:
    """A call was refused or did not get through; `status` is gRPC's name, `reason` the server's."""

    status: str
    reason: str
    sentence: str


Event = Joined | Received | Trained | Submitted | Judged | Decided | Failed


@dataclass
class Rounds:
    """Where a worker stands.

    `done` is the last round it has nothing more to do in; `term` never goes back.
    """

    term: int = 0
    two_phase: bool = True
    done: int = 0
    round: int = 0
    base: str = ""
    attempt: int = 0

    def next(self, event: Event) -> Action:
        """Let an event happen; returns what to do next."""
        if not isinstance(event, Failed):
            self.attempt = 0
        match event:
            case Joined(term, _) if term < self.term:
                return GiveUp(
                    f"the server's term is {term}, but this worker has worked under term {self.term}: "
                    "an old server, or an old copy of the run, answers at this address"
                )
            case Joined(term, two_phase):
                if term > self.term:  # another server decides the open round anew: whatever we did in it is forgotten
                    self.done = min(self.done, max(0, self.round - 1))
                self.term, self.two_phase = term, two_phase
                return Receive(self.done)
            case Received(_, _, outcome) if outcome is not None:
                return End(outcome)
            case Received(round, base, _):
                self.round, self.base = round, base
                return Train(round, base)
            case Trained():
                return Submit(self.round, self.base)
            case Submitted():
                return self._submitted()
            case Judged():
                return Vote(self.round)
            case Decided(round):
                self.done = max(self.done, round)
                return Receive(self.done)
            case Failed(status, reason, sentence):
                return self._failed(status, reason, sentence)

    def _submitted(self) -> Action:
        if self.two_phase:
            return Inspect(self.round)
        self.done = self.round
        return Receive(self.done)

    def _failed(self, status: str, reason: str, sentence: str) -> Action:
        if status in UNREACHABLE:
            self.attempt += 1
            return Again(self.attempt - 1)
        if reason in REJOIN:
            return Join()
        if reason in OVERTAKEN and self.term:
            return Receive(self.done)
        if reason in FATAL or self.round == 0 or status in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            return GiveUp(sentence)
        if reason == "already submitted":  # by this worker's earlier life: its vote still counts
            return self._submitted()
        if reason == "late submission":
            return self._submitted()
        # Anything else is about what we sent in this round: it will not get better by sending it again.
        self.done = self.round
        return Receive(self.done)
