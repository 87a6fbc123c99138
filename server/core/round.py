"""One round as a pure state machine: no clock, no socket, no torch.

COLLECTING -> AGGREGATING -> VOTING -> COMMITTING, or DIVERGED. `advance(round, event, now)` changes the state and says
what to do next; the coordinator does it. What a late or lying worker may send is judged here too (`admit`,
`check_vote`).
"""

import math
from collections.abc import Container, Set
from dataclasses import dataclass, field
from enum import Enum

from ostrakon.common.algorithm import tally, unopposed
from ostrakon.common.choice import Ballot, Choice
from ostrakon.common.reasons import Missing, Reason
from ostrakon.server.core.refusal import Refused


class Phase(Enum):
    """Where a round stands."""

    COLLECTING = "collecting"
    AGGREGATING = "aggregating"
    VOTING = "voting"
    COMMITTING = "committing"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class Conditions:
    """What holds for every round of a run, as long as nobody is revoked."""

    roster: tuple[str, ...]  # whoever counts toward quorums
    f: int
    asynchronous: bool  # the full f against the rule, however many are silent; needs 2f+1 submissions
    grace: float  # multiple of the time that the first n-f took, for the others
    grace_floor: float  # seconds

    @property
    def votes_needed(self) -> int:
        """n - f: as many as answer when f are silent."""
        return len(self.roster) - self.f

    @property
    def submissions_needed(self) -> int:
        """The submission quorum."""
        return max(self.votes_needed, 2 * self.f + 1) if self.asynchronous else self.votes_needed


@dataclass(frozen=True)
class Accepted:
    """A momentum vector that lies in its row, checked; `loss` of its mini-batch, as the member says."""

    session: str
    digest: str
    loss: float


@dataclass
class Round:
    """The state of one round.

    `expected` are the members whose momenta, `voters` those whose votes are worth waiting for; `revoked` are shut out;
    `unreadable` say that they cannot read their data, and are not waited for;
    `patience` is the least number of seconds to wait for all momenta (join_timeout in a server's first round,
    otherwise 0).
    """

    conditions: Conditions
    number: int
    base: str
    expected: frozenset[str]
    voters: frozenset[str]
    opened: float
    patience: float = 0.0
    revoked: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()
    phase: Phase = Phase.COLLECTING
    submissions: dict[str, Accepted] = field(default_factory=dict)
    not_finite: set[str] = field(default_factory=set)
    votes: dict[str, Ballot] = field(default_factory=dict)
    phase_opened: float = field(init=False)
    quorum_at: float | None = None  # when this phase had as many as it needs
    missing: dict[str, Missing] = field(default_factory=dict)  # member -> why it did not count

    def __post_init__(self) -> None:
        self.phase_opened = self.opened

    @property
    def thin(self) -> bool:
        """Whether so few submitted that f liars among them could outweigh the honest: k < 2f + 1."""
        return len(self.submissions) < 2 * self.conditions.f + 1

    def awaited(self) -> tuple[str, ...]:
        """Members this phase still waits for, in roster order."""
        awaited: Set[str] = frozenset()
        if self.phase is Phase.COLLECTING:
            awaited = self.expected - self.submissions.keys() - self.not_finite
        elif self.phase is Phase.VOTING:
            awaited = self.voters - self.votes.keys()
        return tuple(m for m in self.conditions.roster if m in awaited and m not in self.unreadable)

    def deadline(self) -> float | None:
        """When this phase ends without those who are still silent; None while it cannot end."""
        if self.quorum_at is None or self.phase not in (Phase.COLLECTING, Phase.VOTING):
            return None
        took = self.quorum_at - self.phase_opened
        grace = self.quorum_at + max(self.conditions.grace * took, self.conditions.grace_floor)
        return max(grace, self.opened + self.patience) if self.phase is Phase.COLLECTING else grace


# Events: what happened.


@dataclass(frozen=True)
class Uploaded:
    """A member's momentum is in its row, complete and finite; `loss` is that of its mini-batch, as it says."""

    member: str
    session: str
    digest: str
    loss: float = math.nan


@dataclass(frozen=True)
class GradientNotFinite:
    """A member reports that its gradient at the base model is NaN or Inf."""

    member: str


@dataclass(frozen=True)
class Aggregated:
    """Digests of the candidates; None for one that is not finite, or that a one-phase rule does not make."""

    inner: str | None
    outer: str | None


@dataclass(frozen=True)
class Voted:
    """A member's vote."""

    member: str
    ballot: Ballot


@dataclass(frozen=True)
class Unreadable:
    """The members that cannot read their data are now these."""

    members: frozenset[str]


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = Uploaded | GradientNotFinite | Aggregated | Voted | Unreadable | Tick


# Actions: what to do about it.


@dataclass(frozen=True)
class Aggregate:
    """Close all uploads and form the candidates from these members' rows, in roster order, against f liars."""

    members: tuple[str, ...]
    f: int


@dataclass(frozen=True)
class PutToVote:
    """Show both candidates to the workers."""


@dataclass(frozen=True)
class CommitWinner:
    """Commit the winner of the vote, or the only candidate."""

    choice: Choice


@dataclass(frozen=True)
class Diverge:
    """End the run: the model has blown up."""

    why: str


Action = Aggregate | PutToVote | CommitWinner | Diverge


def admit(round: Round, member: str, session: str, base: str, digest: str) -> bool:
    """Judge a submission by its header, before its bytes.

    Returns:
        Whether the bytes are needed; False if this very vector lies in its row already.

    Raises:
        Refused: the round takes no submissions, the base is another model, or the member has submitted other bytes.
    """
    known = round.submissions.get(member)
    if known is not None and known.digest == digest:
        return False
    if known is not None and known.session == session:
        raise Refused(
            Reason.EQUIVOCATION,
            f"{member} submitted {known.digest[:12]} for round {round.number} and now sends {digest[:12]}",
        )
    if known is not None:
        raise Refused(
            Reason.ALREADY_SUBMITTED,
            f"{member} submitted for round {round.number} in an earlier session; go on to vote",
        )
    if round.phase is not Phase.COLLECTING:
        raise Refused(Reason.LATE_SUBMISSION, f"round {round.number} is {round.phase.value} already")
    if base != round.base:
        raise Refused(
            Reason.WRONG_BASE,
            f"round {round.number} starts from model {round.base[:12]}, not from {base[:12]}",
        )
    return True


def check_vote(round: Round, member: str, choice: Choice) -> bool:
    """Judge a vote.

    Returns:
        Whether it is to be counted; False for a repetition of the counted one, or one that came after the decision.

    Raises:
        Refused: there is nothing to vote on yet, or the member voted otherwise before.
    """
    known = round.votes.get(member)
    if known is not None and known.choice != choice:
        raise Refused(Reason.SECOND_VOTE, f"{member} voted {known.choice} in round {round.number} already")
    if round.phase in (Phase.COLLECTING, Phase.AGGREGATING):
        raise Refused(Reason.EARLY_VOTE, f"round {round.number} has proposed no candidates to vote on yet")
    return known is None and round.phase is Phase.VOTING


def advance(round: Round, event: Event, now: float) -> Action | None:
    """Let one event happen to the round; returns what is to be done about it, if anything."""
    match event:
        case Unreadable(members):
            round.unreadable = members
            return advance(round, Tick(), now)
        case Uploaded(member, session, digest, loss) if round.phase is Phase.COLLECTING:
            round.submissions[member] = Accepted(session, digest, loss)
            round.not_finite.discard(member)
            return _collect(round, now)
        case GradientNotFinite(member) if round.phase is Phase.COLLECTING and member not in round.submissions:
            round.not_finite.add(member)
            return _collect(round, now)
        case Aggregated(inner, outer) if round.phase is Phase.AGGREGATING:
            return _propose(round, inner, outer, now)
        case Voted(member, ballot) if round.phase is Phase.VOTING:
            round.votes[member] = ballot
            return _count(round, now)
        case Tick() if round.phase is Phase.COLLECTING:
            return _collect(round, now)
        case Tick() if round.phase is Phase.VOTING:
            return _count(round, now)
    return None


def _collect(round: Round, now: float) -> Action | None:
    conditions = round.conditions
    if len(round.not_finite) > conditions.f:
        _enter(round, Phase.DIVERGED, now)
        return Diverge(
            f"{len(round.not_finite)} workers, more than f = {conditions.f}, report that their gradient at the "
            f"committed model of round {round.number - 1} is not finite"
        )
    arrived = len(round.submissions)
    if arrived < conditions.submissions_needed:
        return None
    if round.quorum_at is None:
        round.quorum_at = now
    if not _over(round, now):
        return None
    for member in conditions.roster:
        if member not in round.submissions:
            round.missing[member] = _why_missing(round, member)
    _enter(round, Phase.AGGREGATING, now)
    silent = len(conditions.roster) - arrived
    members = tuple(m for m in conditions.roster if m in round.submissions)
    return Aggregate(members, conditions.f if conditions.asynchronous else conditions.f - silent)


def _why_missing(round: Round, member: str) -> Missing:
    if member in round.revoked:
        return Missing.REVOKED
    if member in round.unreadable:
        return Missing.DATA_NOT_READABLE
    return Missing.GRADIENT_NOT_FINITE if member in round.not_finite else Missing.NO_SUBMISSION


def _propose(round: Round, inner: str | None, outer: str | None, now: float) -> Action:
    if inner is None and outer is None:
        _enter(round, Phase.DIVERGED, now)
        return Diverge(f"no candidate of round {round.number} is finite")
    choice = unopposed(inner, outer)
    if choice is None:
        _enter(round, Phase.VOTING, now)
        return PutToVote()
    _enter(round, Phase.COMMITTING, now)
    return CommitWinner(choice)


def _count(round: Round, now: float) -> Action | None:
    if 2 * len(round.votes) <= len(round.conditions.roster):
        return None  # the others could outweigh these, whatever they are: nothing is counted yet
    votes = tally((ballot.choice for ballot in round.votes.values()), len(round.conditions.roster))
    if not votes.decided:
        if len(round.votes) < round.conditions.votes_needed:
            return None
        if round.quorum_at is None:
            round.quorum_at = now
        if not _over(round, now):
            return None
        for member in round.conditions.roster:
            if member not in round.votes:
                earlier = round.missing.get(member, Missing.NO_VOTE)
                round.missing[member] = Missing.SILENT if earlier is Missing.NO_SUBMISSION else earlier
    _enter(round, Phase.COMMITTING, now)
    return CommitWinner(votes.winner)


def _over(round: Round, now: float) -> bool:
    deadline = round.deadline()
    return not _awaits(round) or (deadline is not None and now >= deadline)


def _awaits(round: Round) -> bool:
    """Whether anybody is awaited. Asked after every event: it ends with the first one who is."""
    if round.phase is Phase.COLLECTING:
        whom = round.expected
        here: tuple[Container[str], ...] = (round.submissions, round.not_finite, round.unreadable)
    else:
        whom, here = round.voters, (round.votes, round.unreadable)
    return any(not any(member in some for some in here) for member in whom)


def _enter(round: Round, phase: Phase, now: float) -> None:
    round.phase = phase
    round.phase_opened = now
    round.quorum_at = None
