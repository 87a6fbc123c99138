"""The simulation finds bugs: each of these, put into the product, breaks the promise that it should break."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from common.choice import Choice
from server import coordinator
from server import round as rounds
from server.coordinator import Coordinator
from server.ledger import Committed, Entry, Ledger, Unknown
from server.refusal import Refused
from server.roster import Roster
from server.streams import Streams
from tests.simulation.disk import MemoryLedger
from tests.simulation.world import World

# What a killed process was about to do is never done, of course.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")

SEEDS = 300  # that a bug may take to be found

Patch = pytest.MonkeyPatch
make_durable, advance = coordinator.make_durable, rounds.advance


def announce_before_durable(patch: Patch) -> None:
    commit = Coordinator._commit

    async def too_early(self: Coordinator, choice: Choice) -> None:
        asked = asyncio.Event()

        async def durable_at_last(entry: Entry, ledger: Ledger, offload: Any) -> None:
            asked.set()
            behind.append(asyncio.create_task(make_durable(entry, ledger, offload)))

        behind: list[asyncio.Task[None]] = []
        patch.setattr(coordinator, "make_durable", durable_at_last)
        await commit(self, choice)
        for one in behind:
            await one

    patch.setattr(Coordinator, "_commit", too_early)


def no_term_check_in_the_ledger(patch: Patch) -> None:
    patch.setattr(MemoryLedger, "fenced", False)


def strangers_vote(patch: Patch) -> None:
    patch.setattr(Roster, "member", lambda self, caller: caller.id)
    patch.setattr(Roster, "position", lambda self, member: (*self.members, member).index(member) % len(self.members))


def last_vote_wins(patch: Patch) -> None:
    check_vote = rounds.check_vote

    def any_vote(round: rounds.Round, member: str, choice: Choice) -> bool:
        try:
            return check_vote(round, member, choice) or round.phase is rounds.Phase.VOTING
        except Refused as refusal:
            if refusal.reason != "second vote":
                raise
            return round.phase is rounds.Phase.VOTING

    patch.setattr(rounds, "check_vote", any_vote)


def repeated_votes_count(patch: Patch) -> None:
    """The tally asks how many votes came, not from how many members."""
    last_vote_wins(patch)

    def counting(round: rounds.Round, event: rounds.Event, now: float) -> rounds.Action | None:
        if isinstance(event, rounds.Voted) and event.member in round.votes:
            event = rounds.Voted(f"{event.member} again", event.ballot)
        return advance(round, event, now)

    patch.setattr(rounds, "advance", counting)


def ties_go_to_the_first_vote(patch: Patch) -> None:
    count = rounds._count

    def by_arrival(round: rounds.Round, now: float) -> rounds.Action | None:
        action = count(round, now)
        cast = [ballot.choice for ballot in round.votes.values()]
        if isinstance(action, rounds.Commit) and 2 * cast.count("inner") == len(cast) and cast:
            return rounds.Commit(cast[0])
        return action

    patch.setattr(rounds, "_count", by_arrival)


def uploads_go_on_after_their_phase(patch: Patch) -> None:
    patch.setattr(Streams, "claim", lambda self, caller: nullcontext())
    patch.setattr(Streams, "holds", lambda self, caller: True)


def unknown_is_failure(patch: Patch) -> None:
    """The round is decided anew: the other candidate is offered."""

    async def decide_anew(entry: Entry, ledger: Ledger, offload: Any) -> None:
        if isinstance(await offload(ledger.try_commit, entry), Committed):
            return
        await make_durable(Entry(**{**vars(entry), "seconds": entry.seconds + 1}), ledger, offload)

    patch.setattr(coordinator, "make_durable", decide_anew)


def unknown_runs_the_round_again(patch: Patch) -> None:
    commit = Coordinator._commit

    async def again(self: Coordinator, choice: Choice) -> None:
        class Failed(Exception):
            pass

        async def once(entry: Entry, ledger: Ledger, offload: Any) -> None:
            if isinstance(await offload(ledger.try_commit, entry), Unknown):
                raise Failed

        patch.setattr(coordinator, "make_durable", once)
        try:
            await commit(self, choice)
        except Failed:
            self.round = self._open_round()
            self.candidates = {}
            self.notify()

    patch.setattr(Coordinator, "_commit", again)


def unknown_is_success(patch: Patch) -> None:
    async def hope(entry: Entry, ledger: Ledger, offload: Any) -> None:
        if not isinstance(await offload(ledger.try_commit, entry), (Committed, Unknown)):
            await make_durable(entry, ledger, offload)

    patch.setattr(coordinator, "make_durable", hope)


def entry_before_the_file(patch: Patch) -> None:
    write = Coordinator._write_candidates

    async def later(self: Coordinator) -> dict[str, Any]:
        keys = {}
        for candidate in self.candidates.values():
            running_sum = self.running_sum + candidate.theta
            keys[candidate.digest] = coordinator.Key(candidate.digest, calls_digest(running_sum))
        self.behind = asyncio.create_task(write(self))  # type: ignore[attr-defined]
        return keys

    patch.setattr(Coordinator, "_write_candidates", later)


def calls_digest(vector: Any) -> str:
    from common.digest import digest

    return digest(vector)


def votes_without_a_quorum(patch: Patch) -> None:
    patch.setattr(rounds.Terms, "votes_needed", property(lambda self: 1))


def rounds_without_a_quorum(patch: Patch) -> None:
    patch.setattr(rounds.Terms, "submissions_needed", property(lambda self: 1))


def rows_in_order_of_arrival(patch: Patch) -> None:
    collect = rounds._collect

    def arrived(round: rounds.Round, now: float) -> rounds.Action | None:
        action = collect(round, now)
        return rounds.Aggregate(tuple(round.submissions), action.f) if isinstance(action, rounds.Aggregate) else action

    patch.setattr(rounds, "_collect", arrived)


def a_finished_upload_is_never_given_up(patch: Patch) -> None:
    """A call that is not bounded: callers hold as many as they like."""
    patch.setattr("server.open_calls.MOST_OPEN_CALLS", 1000)


BUGS: list[tuple[Callable[[Patch], None], set[str]]] = [
    (announce_before_durable, {"I4"}),
    (no_term_check_in_the_ledger, {"I5"}),
    (strangers_vote, {"I6"}),
    (last_vote_wins, {"I6"}),
    (repeated_votes_count, {"I6"}),
    (ties_go_to_the_first_vote, {"I9"}),
    (uploads_go_on_after_their_phase, {"I6"}),
    (unknown_is_failure, {"I1"}),
    (unknown_runs_the_round_again, {"I1", "I4", "I7"}),
    (unknown_is_success, {"I4"}),
    (entry_before_the_file, {"I4"}),
    (votes_without_a_quorum, {"I7"}),
    (rounds_without_a_quorum, {"I7"}),
    (rows_in_order_of_arrival, {"I6"}),
    (a_finished_upload_is_never_given_up, {"I8"}),
]


def first_violation(seeds: range) -> tuple[int, str]:
    for seed in seeds:
        violation = World(seed).run()
        if violation is not None:
            return seed, str(violation)
    return -1, "none"


@pytest.mark.parametrize(("bug", "invariants"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_the_simulation_finds_this_bug(bug: Callable[[Patch], None], invariants: set[str], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    seed, violation = first_violation(range(SEEDS))
    print(seed, violation)
    assert violation.partition(":")[0] in invariants
