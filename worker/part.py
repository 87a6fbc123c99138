"""A worker's part in a run as a pure state machine: receive, train, submit, judge, vote, adopt.

`advance(part, event)` changes the state and says what to do next; the session does it. No clock, no socket, no torch.
"""

from dataclasses import dataclass

from ostrakon.common.choice import Outcome
from ostrakon.common.reasons import Reason

# Statuses, by gRPC's names, after which the same call may succeed later.
UNREACHABLE = frozenset({"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "RESOURCE_EXHAUSTED"})
# Reasons of a FAILED_PRECONDITION that a new Join may mend: another server, or a restarted one, is answering.
REJOIN = frozenset({Reason.WRONG_TERM, Reason.NOT_JOINED})
# Reasons after which the current model has to be asked for: the others went on without us.
OVERTAKEN = frozenset({Reason.WRONG_ROUND, Reason.WRONG_BASE, Reason.MODEL_REPLACED})
# Reasons that no retry mends: this worker must end and say why.
FATAL = frozenset(
    {
        *(Reason.WRONG_PROTOCOL, Reason.WRONG_RUN, Reason.NO_SESSION, Reason.OLDER_SESSION),
        *(Reason.DIFFERENT_TASK, Reason.DIFFERENT_MODEL, Reason.DIFFERENT_DIGEST),
    }
)


# What to do next.


@dataclass(frozen=True)
class Join:
    """Introduce yourself."""


@dataclass(frozen=True)
class Restore:
    """Send the server the committed model that it has lost."""

    digest: str


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
    """Prepare for the vote at the model `base`, ask for both candidates of this round and judge them."""

    round: int
    base: str


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


Action = Join | Restore | Receive | Train | Submit | Inspect | Vote | Again | End | GiveUp


# What happened.


@dataclass(frozen=True)
class Joined:
    """The server let us in; `wanted` is the digest of a model that it has lost and we hold, empty if there is none."""

    term: int
    two_phase: bool
    wanted: str = ""


@dataclass(frozen=True)
class Restored:
    """The server has its model back."""


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
class Withheld:
    """There is no momentum in this round; the vote counts all the same."""


@dataclass(frozen=True)
class Left:
    """Nothing more is done in this round."""


@dataclass(frozen=True)
class Submitted:
    """The server has our momentum."""


@dataclass(frozen=True)
class Judged:
    """The ballot is ready."""


@dataclass(frozen=True)
class Decided:
    """The round is committed; `next_base` is the model that the next one starts from, where that is known and held."""

    round: int
    next_base: str = ""


@dataclass(frozen=True)
class Failed:
    """A call was refused or did not get through; `status` is gRPC's name, `reason` the server's, as far as known."""

    status: str
    reason: Reason | None
    sentence: str


Event = Joined | Restored | Received | Trained | Withheld | Left | Submitted | Judged | Decided | Failed


@dataclass
class Part:
    """Where a worker stands.

    `committed` is the last round that it knows to be so; `done` the last one it has nothing more to do in, which a new
    term may undo: a server that has died takes what it was sent and did not commit with it. `term` never goes back.
    `restoring`: the server wants its model back, and then to be joined anew.
    """

    term: int = 0
    two_phase: bool = True
    committed: int = 0
    done: int = 0
    round: int = 0
    base: str = ""
    attempt: int = 0
    restoring: bool = False


def advance(part: Part, event: Event) -> Action:
    """Let one event happen to a worker's part; returns what it does next."""
    if not isinstance(event, Failed):
        part.attempt = 0
    match event:
        case Joined(term, _) if term < part.term:
            return GiveUp(
                f"the server's term is {term}, but this worker has worked under term {part.term}: "
                "an old server, or an old copy of the run, answers at this address"
            )
        case Joined(term, two_phase, wanted):
            if term > part.term:
                part.done = part.committed
            part.term, part.two_phase = term, two_phase
            part.restoring = bool(wanted)
            return Restore(wanted) if wanted else Receive(part.done)
        case Restored():
            part.restoring = False
            return Join()
        case Received(_, _, outcome) if outcome is not None:
            return End(outcome)
        case Received(round, base, _):
            _learn_committed(part, round - 1)
            return _begin(part, round, base)
        case Trained():
            return Submit(part.round, part.base)
        case Submitted() | Withheld():
            return _submitted(part)
        case Left():
            part.done = part.round
            return Receive(part.done)
        case Judged():
            return Vote(part.round)
        case Decided(round, next_base):
            _learn_committed(part, round)
            return _begin(part, round + 1, next_base) if next_base and part.done == round else Receive(part.done)
        case Failed(status, reason, sentence):
            return _failed(part, status, reason, sentence)


def _begin(part: Part, round: int, base: str) -> Action:
    part.round, part.base = round, base
    return Train(round, base)


def _learn_committed(part: Part, round: int) -> None:
    part.committed = max(part.committed, round)
    part.done = max(part.done, round)


def _submitted(part: Part) -> Action:
    if part.two_phase:
        return Inspect(part.round, part.base)
    part.done = part.round
    return Receive(part.done)


def _failed(part: Part, status: str, reason: Reason | None, sentence: str) -> Action:
    if status in UNREACHABLE:
        part.attempt += 1
        return Again(part.attempt - 1)
    if reason in REJOIN or (part.restoring and reason not in FATAL):
        part.restoring = False
        return Join()
    if reason in OVERTAKEN and part.term:
        return Receive(part.done)
    if reason in FATAL or part.round == 0 or status in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return GiveUp(sentence)
    if reason in (Reason.LATE_SUBMISSION, Reason.ALREADY_SUBMITTED):  # by an earlier life: the vote still counts
        return _submitted(part)
    # Anything else is about what we sent in this round: it will not get better by sending it again.
    part.done = part.round
    return Receive(part.done)
