"""Who counts: members and their positions, one live session each, and who is not worth waiting for."""

from collections.abc import Set
from dataclasses import dataclass, field

from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.server.core.refusal import Refused


@dataclass(frozen=True)
class KnownHead:
    """The last ledger entry that a worker remembers having been told of."""

    round: int
    hash: str


@dataclass
class Roster:
    """The members of a run, in the order in which their rows are summed."""

    members: tuple[str, ...]
    absent_after: int  # rounds missed in a row
    sessions: dict[str, str] = field(default_factory=dict)
    heads: dict[str, KnownHead] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)  # submissions in a row
    missed_votes: dict[str, int] = field(default_factory=dict)  # in a row
    chances: dict[str, int] = field(default_factory=dict)  # that a late member was given since it last submitted
    next_chance: dict[str, int] = field(default_factory=dict)  # in this round at the earliest
    unreadable: dict[str, str] = field(default_factory=dict)  # members that cannot read their data -> why, as they say
    revoked: frozenset[Identity] = frozenset()  # of any role
    _positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._positions = {member: position for position, member in enumerate(self.members)}

    def member(self, caller: Identity) -> str:
        """The roster id of a caller.

        Raises:
            Refused: the caller is no worker, or a worker that is not on the roster.
        """
        if caller.role != "worker":
            raise Refused(
                Reason.WRONG_ROLE,
                f"expected a worker's certificate, got {caller.urn}: only workers submit and vote",
            )
        if caller.id not in self._positions:
            raise Refused(
                Reason.NOT_ON_THE_ROSTER,
                f"worker {caller.id} is not on the roster of this run ({', '.join(self.members)}): "
                "use a roster member's certificate, or start a run whose roster names this worker",
            )
        self.check_not_revoked(caller)
        return caller.id

    def check_not_revoked(self, caller: Identity) -> None:
        """Refuse who is shut out.

        Raises:
            Refused: the caller is revoked.
        """
        if caller in self.revoked:
            raise Refused(
                Reason.REVOKED,
                f"{caller.role} {caller.id} is revoked: it has no part in this run any more, under any certificate",
            )

    def shut_out(self) -> frozenset[str]:
        """Members that are revoked."""
        return frozenset(member for member in self.members if Identity("worker", member) in self.revoked)

    def name(self, caller: Identity | None) -> str:
        """The member's name; empty for a caller that is none."""
        return caller.id if caller is not None and caller.role == "worker" and caller.id in self._positions else ""

    def position(self, member: str) -> int:
        """The member's row."""
        return self._positions[member]

    def join(self, member: str, session: str, head: KnownHead | None) -> bool:
        """Open a session; returns whether it replaced another live one."""
        replaced = self.sessions.get(member, session) != session
        self.sessions[member] = session
        if head is not None:
            self.heads[member] = head
        return replaced

    def check_session(self, member: str, session: str) -> None:
        """Accept calls of the member's newest session only.

        Raises:
            Refused: the member has not joined this server, or another process joined in its name since.
        """
        known = self.sessions.get(member)
        if known is None:
            raise Refused(Reason.NOT_JOINED, f"{member} has not joined this server: join first")
        if known != session:
            raise Refused(
                Reason.OLDER_SESSION,
                f"another process has joined as {member} since: one certificate serves one process at a time",
            )

    def tell_unreadable(self, member: str, why: str) -> bool:
        """A member cannot read its data, or can again where `why` is empty; returns whether that is news."""
        if self.unreadable.get(member, "") == why:
            return False
        self.unreadable.pop(member, None)
        if why:
            self.unreadable[member] = why
        return True

    def revoke(self, revoked: frozenset[Identity]) -> None:
        """Shut these out for the rest of the run."""
        self.revoked |= revoked
        for member in self.shut_out():
            self.sessions.pop(member, None)
            self.heads.pop(member, None)
            self.unreadable.pop(member, None)

    def expected(self) -> frozenset[str]:
        """Members worth waiting for: all but the revoked and those that missed several rounds running."""
        return frozenset(m for m in self.members if self.missed.get(m, 0) < self.absent_after) - self.shut_out()

    def voters(self) -> frozenset[str]:
        """Members whose votes are worth waiting for."""
        return frozenset(m for m in self.expected() if self.missed_votes.get(m, 0) < self.absent_after)

    def come_too_late(self, member: str, round: int) -> None:
        """A member that is not waited for was reading the model, or has a momentum, and the others were faster.

        Wait for it once more: it would never be in time otherwise. When it has kept the others waiting in vain, its
        next chance comes after twice as many rounds, so that this costs a run of T rounds at most about log2(T) grace
        periods a member.
        """
        if self.missed.get(member, 0) < self.absent_after or round < self.next_chance.get(member, 0):
            return
        self.missed[member] = self.absent_after - 2  # this round still counts as missed
        self.chances[member] = self.chances.get(member, 0) + 1
        self.next_chance[member] = round + 2 ** self.chances[member]

    def absent(self) -> tuple[str, ...]:
        """Members that are not waited for until they submit again."""
        waited_for = self.expected() | self.shut_out()
        return tuple(m for m in self.members if m not in waited_for)

    def close_round(self, submitted: Set[str], voted: Set[str], unheard: Set[str]) -> None:
        """Remember who was there; `unheard` are those whose votes were waited for in vain."""
        for member in self.members:
            self.missed[member] = 0 if member in submitted else self.missed.get(member, 0) + 1
            if member in submitted:
                self.chances.pop(member, None)
            if member in voted:
                self.missed_votes[member] = 0
            elif member in unheard:
                self.missed_votes[member] = self.missed_votes.get(member, 0) + 1

    def ahead_of(self, round: int, hash: str) -> list[str]:
        """Members that remember an entry which a ledger ending with (round, hash) does not hold."""
        return [
            m for m, head in self.heads.items() if head.round > round or (head.round == round and head.hash != hash)
        ]
