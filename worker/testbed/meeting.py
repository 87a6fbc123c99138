"""Where colluders meet: what the honest sent, what the corrupted would have sent, and what they send instead.

No network. Of one run at a time the last few rounds are kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from ostrakon.common.choice import Choice
from ostrakon.common.clock import Clock
from ostrakon.common.wire import Vector
from ostrakon.worker.attacks import Attack, Defence, pivotal
from ostrakon.worker.attacks.mounting import together

log = structlog.get_logger()

KEPT = 2  # meetings of each kind: the vectors of more rounds are worth nothing

T = TypeVar("T")


class Key(NamedTuple):
    """What a meeting is about: a round of a run, and the model that its momenta start from."""

    run: str
    round: int
    base: str = ""


class _Meeting(Generic[T]):
    """What came for one decision, by worker: `T` is what workers bring."""

    def __init__(self) -> None:
        self.honest: dict[str, T] = {}
        self.corrupted: dict[str, T] = {}
        self.deadline: float | None = None
        self.plans: dict[str, _Plan] = {}
        self.changed = asyncio.Event()

    def bring(self, among: dict[str, T], member: str, what: T) -> None:
        among[member] = what
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True)
class _Plan:
    """What some of the corrupted do, being computed."""

    members: tuple[str, ...]
    result: "asyncio.Future[Any]"


@dataclass
class _Attendance:
    """Who is worth waiting for: all but those that were missing several times running."""

    absent_after: int
    missed: dict[str, int] = field(default_factory=dict)

    def awaited(self, members: Iterable[str]) -> set[str]:
        return {member for member in members if self.missed.get(member, 0) < self.absent_after}

    def close(self, members: Iterable[str], present: Collection[str]) -> None:
        for member in members:
            self.missed[member] = 0 if member in present else self.missed.get(member, 0) + 1
            if self.missed[member] == self.absent_after:
                log.info("no longer waited for", worker=member)

    def welcome(self, member: str) -> None:
        if self.missed.get(member, 0) >= self.absent_after:
            log.info("waited for again", worker=member)
        self.missed[member] = 0


class _Place(Generic[T]):
    """The meetings of one kind: corrupted workers wait there for everybody, but not beyond the tap deadline."""

    def __init__(
        self,
        honest: tuple[str, ...],
        corrupted: tuple[str, ...],
        tap_deadline: float,
        absent_after: int,
        clock: Clock,
        offload: Callable[..., Awaitable[Any]],
    ) -> None:
        self._honest = honest
        self._corrupted = corrupted
        self._tap_deadline = tap_deadline
        self._clock = clock
        self._offload = offload
        self._attendance = _Attendance(absent_after)
        self._run = ""
        self._meetings: dict[Key, _Meeting[T]] = {}

    def copy(self, member: str, key: Key, what: T) -> None:
        """Take in what an honest worker sent."""
        meeting = self._meeting(key)
        self._bring(meeting, meeting.honest, member, what)

    def share(self, member: str, key: Key, what: T) -> None:
        """Take in a corrupted worker's own, which asks for nothing in this round."""
        meeting = self._meeting(key)
        self._bring(meeting, meeting.corrupted, member, what)

    async def conspire(
        self, member: str, key: Key, what: T, plot: str, decide: Callable[[list[T], list[T]], list[Any]]
    ) -> Any:
        """Bring a corrupted worker's own, wait for the others, and get what it is to do.

        Args:
            plot: names `decide`: whoever names the same shares the result.
            decide: (what the honest, what the corrupted brought, both in roster order) -> one result for each of the
                corrupted; runs off the event loop.
        """
        meeting = self._meeting(key)
        self._bring(meeting, meeting.corrupted, member, what)
        if meeting.deadline is None:
            meeting.deadline = self._clock.now() + self._tap_deadline
        while self._lacking(meeting) and self._clock.now() < meeting.deadline:
            await self._clock.wait(meeting.changed, meeting.deadline)
        plan = meeting.plans.get(plot)
        if plan is None or member not in plan.members:
            if not meeting.plans:
                self._attendance.close((*self._honest, *self._corrupted), {*meeting.honest, *meeting.corrupted})
            members = tuple(one for one in self._corrupted if one in meeting.corrupted)
            honest = [meeting.honest[one] for one in self._honest if one in meeting.honest]
            corrupted = [meeting.corrupted[one] for one in members]
            plan = _Plan(members, asyncio.ensure_future(self._offload(decide, honest, corrupted)))
            meeting.plans[plot] = plan
        results = await asyncio.shield(plan.result)
        return results[plan.members.index(member)]

    def _bring(self, meeting: _Meeting[T], among: dict[str, T], member: str, what: T) -> None:
        meeting.bring(among, member, what)
        # Who comes to a decision that did not wait for it, but would have been in time, is waited for again.
        if meeting.plans and meeting.deadline is not None and self._clock.now() < meeting.deadline:
            self._attendance.welcome(member)

    def _lacking(self, meeting: _Meeting[T]) -> set[str]:
        expected = self._attendance.awaited((*self._honest, *self._corrupted))
        return expected - meeting.honest.keys() - meeting.corrupted.keys()

    def _meeting(self, key: Key) -> _Meeting[T]:
        if key.run != self._run:
            self._run, self._meetings = key.run, {}
        if key not in self._meetings:
            if len(self._meetings) >= KEPT:
                oldest = min(self._meetings, key=lambda kept: kept.round)
                if key.round < oldest.round:
                    return _Meeting()  # that nobody else will come to
                del self._meetings[oldest]
            self._meetings[key] = _Meeting()
        return self._meetings[key]


class Meetings:
    """All that colluders of one test bed agree upon.

    Args:
        honest: workers of which there are copies, in roster order.
        corrupted: workers that ask what to send, likewise.
        voters: workers that ask what to vote, likewise.
        tap_deadline: seconds that a corrupted worker waits for the others, from the first one that asks.
        absent_after: rounds missed in a row after which a worker is not waited for, until it is seen again.
        seed: of what the colluders draw.
        offload: `offload(function, *args)` runs blocking work off the event loop.
    """

    def __init__(
        self,
        honest: tuple[str, ...],
        corrupted: tuple[str, ...],
        voters: tuple[str, ...],
        *,
        tap_deadline: float,
        absent_after: int,
        seed: int,
        clock: Clock,
        offload: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self.honest = honest
        self.corrupted = corrupted
        self.voters = voters
        self._seed = seed
        self._momenta: _Place[Vector] = _Place(honest, corrupted, tap_deadline, absent_after, clock, offload)
        self._votes: _Place[Choice | None] = _Place(honest, voters, tap_deadline, absent_after, clock, offload)

    def copy(self, member: str, key: Key, vector: Vector) -> None:
        """An honest worker has sent this momentum, (d,)."""
        self._momenta.copy(member, key, vector)

    def copy_vote(self, member: str, key: Key, choice: Choice) -> None:
        """An honest worker has voted."""
        self._votes.copy(member, key, choice)

    def share(self, member: str, key: Key, vector: Vector) -> None:
        """A corrupted worker that acts alone in this round has this true momentum, (d,)."""
        self._momenta.share(member, key, vector)

    async def ask(self, member: str, key: Key, vector: Vector, attack: Attack, defence: Defence) -> Vector:
        """What a corrupted worker sends instead of its true momentum, (d,).

        Raises:
            OstrakonError: the attack cannot be mounted with what came.
        """

        def decide(honest: list[Vector], corrupted: list[Vector]) -> list[Vector]:
            return together(attack, honest, corrupted, seed=self._seed, round=key.round, defence=defence)

        sent: Vector = await self._momenta.conspire(member, key, vector, attack.name, decide)
        return sent

    async def ask_vote(self, member: str, key: Key) -> Choice | None:
        """What a corrupted worker votes so that only votes are cast that change the outcome; None for not at all."""

        def decide(honest: list[Choice | None], corrupted: list[Choice | None]) -> list[Choice | None]:
            votes = pivotal(honest.count("inner"), honest.count("outer"), len(corrupted))
            return [votes] * len(corrupted)

        choice: Choice | None = await self._votes.conspire(member, key, None, "pivotal", decide)
        return choice
