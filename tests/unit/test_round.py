"""One round at the server: when it moves on, what counts, and what is refused."""

import sys
from dataclasses import replace

import pytest

from ostrakon.common.choice import Ballot
from ostrakon.common.reasons import Missing, Reason
from ostrakon.server.core.refusal import Code, Refused
from ostrakon.server.core.round import (
    Aggregate,
    Aggregated,
    Choice,
    CommitWinner,
    Conditions,
    Diverge,
    Event,
    GradientNotFinite,
    Phase,
    PutToVote,
    Round,
    Tick,
    Uploaded,
    Voted,
    admit,
    advance,
    check_vote,
)

FIVE = Conditions(("a", "b", "c", "d", "e"), f=2, asynchronous=False, grace=1.0, grace_floor=2.0)


def open_round(conditions: Conditions = FIVE, **values: object) -> Round:
    values = {"expected": frozenset(conditions.roster), "opened": 100.0, **values}
    values.setdefault("voters", values["expected"])
    return Round(conditions, number=7, base="base", **values)  # type: ignore[arg-type]


def submitted(member: str, session: str = "s") -> Uploaded:
    return Uploaded(member, session, f"momentum of {member}")


def vote(member: str, choice: Choice) -> Voted:
    return Voted(member, Ballot(choice, 1.0, 2.0))


def let(round: Round, *events: Event, now: float = 100.0) -> object:
    """Let events happen; returns the last one's action, all others must have none."""
    *quiet, last = events
    for event in quiet:
        assert advance(round, event, now) is None, event
    return advance(round, last, now)


def voting(conditions: Conditions = FIVE, members: str = "abcde", **values: object) -> Round:
    """A round that has opened its vote at 101."""
    round = open_round(conditions, **values)
    for member in members:
        advance(round, submitted(member), 100.0)
    advance(round, Tick(), 1000.0)
    assert advance(round, Aggregated("inner", "outer"), 101.0) == PutToVote()
    round.phase_opened = 101.0
    return round


def refusal(judge: object, *arguments: object) -> tuple[Code, str]:
    with pytest.raises(Refused) as caught:
        judge(*arguments)  # type: ignore[operator]
    return caught.value.code, caught.value.reason


# Collecting.


def test_when_everyone_has_submitted_the_round_goes_on_at_once_in_roster_order() -> None:
    round = open_round()
    assert let(round, *map(submitted, "ecadb")) == Aggregate(("a", "b", "c", "d", "e"), 2)
    assert round.missing == {}


def test_below_the_quorum_no_time_is_long_enough() -> None:
    round = open_round()
    assert let(round, submitted("a"), submitted("b"), Tick(), now=1e9) is None
    assert round.deadline() is None and round.awaited() == ("c", "d", "e")


def test_after_the_quorum_the_others_get_as_long_as_it_took_times_grace() -> None:
    round = open_round(replace(FIVE, grace=1.5))
    let(round, submitted("a"), submitted("b"), now=101.0)
    assert let(round, submitted("c"), now=110.0) is None
    assert round.deadline() == 125.0
    assert let(round, Tick(), now=124.9) is None
    assert let(round, Tick(), now=125.0) == Aggregate(("a", "b", "c"), 0)
    assert round.missing == {"d": Missing.NO_SUBMISSION, "e": Missing.NO_SUBMISSION}


def test_the_grace_has_a_floor() -> None:
    round = open_round()
    let(round, *map(submitted, "abc"), now=100.1)
    assert round.deadline() == pytest.approx(102.1)


def test_a_submission_within_the_grace_counts_and_does_not_prolong_it() -> None:
    round = open_round()
    let(round, *map(submitted, "abc"), now=110.0)
    let(round, submitted("d"), now=119.0)
    assert round.deadline() == 120.0
    assert let(round, Tick(), now=120.0) == Aggregate(("a", "b", "c", "d"), 1)


def test_the_first_round_waits_for_everyone_as_long_as_it_was_told() -> None:
    round = open_round(patience=60.0)
    let(round, *map(submitted, "abc"), now=101.0)
    assert round.deadline() == 160.0
    assert let(round, Tick(), now=159.0) is None
    assert let(round, submitted("d"), submitted("e"), now=159.5) == Aggregate(tuple("abcde"), 2)


def test_members_that_are_not_expected_are_not_waited_for_but_counted_if_they_come() -> None:
    round = open_round(expected=frozenset("abc"))
    let(round, submitted("e"), submitted("a"))
    assert round.awaited() == ("b", "c")
    assert let(round, submitted("b"), submitted("c")) == Aggregate(("a", "b", "c", "e"), 1)


def test_fewer_expected_members_than_the_quorum_do_not_lower_it() -> None:
    round = open_round(expected=frozenset("a"))
    assert let(round, submitted("a"), submitted("b"), Tick(), now=1e9) is None
    assert let(round, submitted("d"), now=1e9) == Aggregate(("a", "b", "d"), 0)


@pytest.mark.parametrize(("arrived", "f"), [("abcde", 2), ("abcd", 1), ("abc", 0)])
def test_the_silent_count_as_some_of_the_f(arrived: str, f: int) -> None:
    round = open_round()
    let(round, *map(submitted, arrived[:-1]))
    action = let(round, submitted(arrived[-1])) or let(round, Tick(), now=1e9)
    assert action == Aggregate(tuple(arrived), f)


def test_an_asynchronous_round_needs_2f_plus_1_and_keeps_the_full_f() -> None:
    conditions = replace(FIVE, roster=tuple("abcdef"), asynchronous=True)
    round = open_round(conditions)
    assert let(round, *map(submitted, "abcd"), Tick(), now=1e9) is None
    assert let(round, submitted("e"), now=1e9) is None
    assert let(round, Tick(), now=2e9) == Aggregate(tuple("abcde"), 2)
    assert not round.thin


@pytest.mark.parametrize(("arrived", "thin"), [("abc", True), ("abcd", True), ("abcde", False)])
def test_a_round_with_fewer_than_2f_plus_1_is_thin(arrived: str, thin: bool) -> None:
    round = open_round()
    let(round, *map(submitted, arrived[:-1]))
    let(round, submitted(arrived[-1]))
    assert round.thin is thin


def test_without_liars_everyone_is_needed() -> None:
    conditions = Conditions(("a", "b"), f=0, asynchronous=False, grace=1.0, grace_floor=2.0)
    round = open_round(conditions)
    assert let(round, submitted("a"), Tick(), now=1e9) is None
    assert let(round, submitted("b"), now=1e9) == Aggregate(("a", "b"), 0)


# Gradients that are not finite.


def test_f_members_without_a_finite_gradient_count_as_silent_and_are_not_waited_for() -> None:
    round = open_round()
    let(round, GradientNotFinite("a"), GradientNotFinite("e"), submitted("b"), submitted("c"))
    assert let(round, submitted("d")) == Aggregate(("b", "c", "d"), 0)
    assert round.missing == {"a": Missing.GRADIENT_NOT_FINITE, "e": Missing.GRADIENT_NOT_FINITE}


def test_more_than_f_members_without_a_finite_gradient_end_the_run() -> None:
    action = let(open_round(), *map(GradientNotFinite, "aab"), submitted("c"), GradientNotFinite("d"))
    assert isinstance(action, Diverge)
    assert "3 workers" in action.why and "f = 2" in action.why and "round 6" in action.why


def test_a_member_that_submits_after_all_is_no_longer_counted_as_not_finite() -> None:
    round = open_round()
    let(round, GradientNotFinite("a"), GradientNotFinite("b"), submitted("a"))
    assert let(round, GradientNotFinite("c")) is None


def test_a_member_that_has_submitted_cannot_claim_that_it_could_not() -> None:
    round = open_round()
    let(round, *map(submitted, "abc"))
    assert let(round, *map(GradientNotFinite, "abc")) is None
    assert round.not_finite == set()


# The candidates.


@pytest.mark.parametrize(
    ("inner", "outer", "choice"),
    [("same", "same", "inner"), ("x", None, "inner"), (None, "x", "outer")],
)
def test_one_candidate_needs_no_vote(inner: str | None, outer: str | None, choice: Choice) -> None:
    round = open_round()
    let(round, *map(submitted, "abcde"))
    assert let(round, Aggregated(inner, outer)) == CommitWinner(choice)


def test_two_different_candidates_are_proposed() -> None:
    round = open_round()
    let(round, *map(submitted, "abcde"))
    assert let(round, Aggregated("x", "y")) == PutToVote()


def test_no_finite_candidate_ends_the_run() -> None:
    round = open_round()
    let(round, *map(submitted, "abcde"))
    action = let(round, Aggregated(None, None))
    assert isinstance(action, Diverge) and "round 7" in action.why


@pytest.mark.parametrize(
    "events",
    [[*map(GradientNotFinite, "abc")], [*map(submitted, "abcde"), Aggregated(None, None)]],
    ids=["no finite gradient", "no finite candidate"],
)
def test_a_round_that_has_diverged_does_nothing_more(events: list[Event]) -> None:
    round = open_round()
    assert isinstance([advance(round, event, 100.0) for event in events][-1], Diverge)
    later = (Tick(), GradientNotFinite("d"), *map(submitted, "abcde"), Aggregated("x", "y"), vote("a", "inner"))
    assert [advance(round, event, 1000.0) for event in later] == [None] * len(later)


# The vote.


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ("iii", "inner"),
        ("ooo", "outer"),
        ("ioii", "inner"),
        ("ooio", "outer"),
        ("oioio", "outer"),
        ("ioioi", "inner"),
    ],
)
def test_the_vote_is_decided_when_the_lead_exceeds_the_votes_outstanding_and_not_before(
    votes: str, winner: Choice
) -> None:
    round = voting()
    ballots = [vote(member, "inner" if c == "i" else "outer") for member, c in zip("abcde", votes, strict=False)]
    assert let(round, *ballots, now=101.0) == CommitWinner(winner)


def test_members_that_did_not_submit_may_vote_and_are_outstanding_until_they_do() -> None:
    round = voting(members="abc")
    assert let(round, vote("d", "outer"), vote("e", "outer"), now=101.0) is None
    assert let(round, vote("a", "outer"), now=101.0) == CommitWinner("outer")


def test_a_tie_goes_to_inner() -> None:
    conditions = replace(FIVE, roster=tuple("abcd"), f=1)
    round = voting(conditions, members="abcd")
    assert let(round, vote("a", "outer"), vote("b", "outer"), vote("c", "inner"), now=101.0) is None
    assert let(round, vote("d", "inner"), now=101.0) == CommitWinner("inner")


def test_a_tie_at_the_deadline_goes_to_inner() -> None:
    conditions = replace(FIVE, roster=tuple("abcdef"))
    round = voting(conditions, members="abcdef")
    let(round, vote("a", "outer"), vote("b", "inner"), vote("c", "outer"), vote("d", "inner"), now=105.0)
    assert round.deadline() == 109.0
    assert let(round, Tick(), now=108.9) is None
    assert let(round, Tick(), now=109.0) == CommitWinner("inner")


def test_below_the_quorum_of_votes_no_time_is_long_enough() -> None:
    round = voting()
    assert let(round, vote("a", "outer"), vote("b", "outer"), Tick(), now=1e9) is None
    assert round.deadline() is None and round.awaited() == ("c", "d", "e")


def test_who_did_not_vote_is_missing_and_who_did_nothing_at_all_is_silent() -> None:
    conditions = replace(FIVE, roster=tuple("abcdef"))
    round = voting(conditions, members="abcde")
    let(round, vote("a", "outer"), vote("b", "inner"), vote("c", "outer"), vote("d", "inner"), now=101.0)
    let(round, Tick(), now=1e9)
    assert round.missing == {"e": Missing.NO_VOTE, "f": Missing.SILENT}


def test_the_vote_does_not_wait_for_members_that_are_not_expected() -> None:
    round = voting(expected=frozenset("abcd"))
    ballots = [vote("a", "inner"), vote("b", "outer"), vote("c", "outer"), vote("d", "outer")]
    assert let(round, *ballots[:3], now=101.0) is None
    assert let(round, ballots[3], now=101.0) == CommitWinner("outer")


# What is refused.


def test_a_submission_is_admitted_once() -> None:
    round = open_round()
    assert admit(round, "a", "s", "base", "x")
    advance(round, Uploaded("a", "s", "x"), 100.0)
    assert not admit(round, "a", "s", "base", "x")
    assert not admit(round, "a", "another session", "base", "x")
    assert refusal(admit, round, "a", "s", "base", "y") == (Code.ALREADY_EXISTS, Reason.EQUIVOCATION)
    assert refusal(admit, round, "a", "another session", "base", "y") == (Code.ALREADY_EXISTS, Reason.ALREADY_SUBMITTED)


def test_a_submission_on_another_model_is_refused() -> None:
    assert refusal(admit, open_round(), "a", "s", "old", "x") == (Code.FAILED_PRECONDITION, Reason.WRONG_BASE)


def test_a_late_submission_is_refused_and_an_accepted_one_still_acknowledged() -> None:
    round = voting(members="abc")
    assert refusal(admit, round, "e", "s", "base", "x") == (Code.FAILED_PRECONDITION, Reason.LATE_SUBMISSION)
    assert not admit(round, "a", "s", "base", "momentum of a")


def test_what_happens_too_late_changes_nothing() -> None:
    round = voting(members="abc")
    late: list[Event] = [submitted("e"), *map(GradientNotFinite, "abcde"), Aggregated("x", "x")]
    for event in late:
        assert let(round, event) is None
    assert set(round.submissions) == set("abc") and not round.not_finite and round.phase is Phase.VOTING


def test_a_vote_before_there_are_candidates_is_refused() -> None:
    round = open_round()
    assert refusal(check_vote, round, "a", "inner") == (Code.FAILED_PRECONDITION, Reason.EARLY_VOTE)
    let(round, *map(submitted, "abcde"))
    assert refusal(check_vote, round, "a", "inner") == (Code.FAILED_PRECONDITION, Reason.EARLY_VOTE)


def test_a_second_vote_is_refused_and_the_same_one_again_is_not_counted() -> None:
    round = voting()
    assert check_vote(round, "a", "outer")
    advance(round, vote("a", "outer"), 101.0)
    assert not check_vote(round, "a", "outer")
    assert refusal(check_vote, round, "a", "inner") == (Code.ALREADY_EXISTS, Reason.SECOND_VOTE)


def test_a_vote_after_the_decision_is_not_counted() -> None:
    round = voting()
    let(round, vote("a", "outer"), vote("b", "outer"), vote("c", "outer"))
    assert not check_vote(round, "d", "inner")
    assert refusal(check_vote, round, "a", "inner") == (Code.ALREADY_EXISTS, Reason.SECOND_VOTE)
    assert let(round, vote("d", "inner"), vote("e", "inner"), Tick(), now=1e9) is None
    assert set(round.votes) == {"a", "b", "c"}


def test_what_an_event_costs_hardly_grows_with_the_roster() -> None:
    """All calls of functions in a whole round are counted; a look at everybody after each would be quadratic."""

    def calls(n: int) -> int:
        count = 0

        def counted(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        members = tuple(f"w{i}" for i in range(n))
        round = open_round(Conditions(members, n // 3, asynchronous=False, grace=1.0, grace_floor=2.0))
        sys.setprofile(counted)
        try:
            for member in members:
                advance(round, submitted(member), 100.0)
            advance(round, Aggregated("one", "other"), 100.0)
            for member in members:
                advance(round, vote(member, "inner"), 100.0)
        finally:
            sys.setprofile(None)
        assert round.phase is Phase.COMMITTING
        return count

    assert calls(800) < 16 * calls(100)  # 64 times as many pairs
