"""What one round proposes, and the ledger entry that comes of it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ostrakon.common.choice import Choice
from ostrakon.server.core.aggregator import Candidate
from ostrakon.server.core.round import Round
from ostrakon.server.storage.ledger import CountedVote, Entry
from ostrakon.server.storage.model_store import ModelKey


@dataclass(frozen=True)
class Proposal:
    """The candidates of a round that are finite, and the members whose momenta they were formed from, row by row."""

    candidates: Mapping[Choice, Candidate] = field(default_factory=dict)
    members: tuple[str, ...] = ()

    def digest(self, choice: Choice) -> str | None:
        """The candidate's digest, if there is one."""
        candidate = self.candidates.get(choice)
        return None if candidate is None else candidate.digest

    def cluster(self, choice: Choice) -> tuple[str, ...]:
        """Who was in the tight cluster that the candidate was formed from or without."""
        candidate = self.candidates.get(choice)
        return () if candidate is None else tuple(self.members[row] for row in candidate.cluster)


def entry_of(
    round: Round,
    proposal: Proposal,
    choice: Choice,
    key: ModelKey,
    *,
    roster: Sequence[str],
    refused: Counter[tuple[str, str]],
    term: int,
    seconds: float,
    previous: str,
) -> Entry:
    """The entry of a round that is decided.

    Args:
        round: the round, with its votes.
        proposal: its candidates.
        choice: the winner.
        key: names the winner's file.
        roster: all members; votes and names stand in this order.
        refused: how often calls were refused in this round, by (member, reason).
        term: of this server.
        seconds: how long the round took.
        previous: hash of the entry before.
    """
    refused_here: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (worker, reason), count in sorted(refused.items()):
        refused_here[worker][reason] = count
    return Entry(
        round=round.number,
        term=term,
        base=round.base,
        inner=proposal.digest("inner"),
        outer=proposal.digest("outer"),
        winner=key.digest,
        choice=choice,
        votes=tuple(
            CountedVote(member, ballot.choice, ballot.inner_loss, ballot.outer_loss)
            for member in roster
            if (ballot := round.votes.get(member)) is not None
        ),
        inner_cluster=proposal.cluster("inner"),
        outer_cluster=proposal.cluster("outer"),
        missing=dict(round.missing),
        refused=dict(refused_here),
        thin=round.thin,
        seconds=seconds,
        running_sum=key.running_sum,
        previous=previous,
        revoked=tuple(member for member in roster if member in round.revoked),
    )
