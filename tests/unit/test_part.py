"""A worker's round: what it does next, whatever happened."""

from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostrakon.common.reasons import Reason
from ostrakon.server.core.refusal import CODES, Code
from ostrakon.worker.part import (
    FATAL,
    REJOIN,
    UNREACHABLE,
    Again,
    Decided,
    End,
    Event,
    Failed,
    GiveUp,
    Inspect,
    Join,
    Joined,
    Judged,
    Left,
    Outcome,
    Part,
    Receive,
    Received,
    Restore,
    Restored,
    Submit,
    Submitted,
    Train,
    Trained,
    Vote,
    Withheld,
    advance,
)

# Every refusal that the server knows, and those that only a newer one does, as (status, reason).
REFUSALS: list[tuple[str, Reason | None]] = [
    *((code.name, reason) for reason, code in CODES.items()),
    *((code.name, None) for code in Code),
]


def at_round(number: int = 4, *, two_phase: bool = True) -> Part:
    """A worker that has received the model of a round and trained on it."""
    part = Part()
    advance(part, Joined(2, two_phase))
    advance(part, Received(number, "base", None))
    advance(part, Trained())
    return part


def failed(reason: Reason | None, status: str = "FAILED_PRECONDITION") -> Failed:
    return Failed(status, reason, f"because of {reason}")


def test_without_a_momentum_there_is_still_the_vote_and_without_either_the_next_round() -> None:
    part = at_round(4)
    assert advance(part, Withheld()) == Inspect(4, "base")
    assert advance(part, Left()) == Receive(4)
    assert advance(at_round(4, two_phase=False), Withheld()) == Receive(4)
    assert advance(at_round(4), Left()) == Receive(4)


def test_a_round_of_two_phases() -> None:
    part = Part()
    assert advance(part, Joined(1, True)) == Receive(0)
    assert advance(part, Received(1, "theta_0", None)) == Train(1, "theta_0")
    assert advance(part, Trained()) == Submit(1, "theta_0")
    assert advance(part, Submitted()) == Inspect(1, "theta_0")
    assert advance(part, Judged()) == Vote(1)
    assert advance(part, Decided(1)) == Receive(1)
    assert advance(part, Received(2, "theta_1", None)) == Train(2, "theta_1")


def test_a_round_of_one_phase_knows_no_vote() -> None:
    part = Part()
    assert advance(part, Joined(1, False)) == Receive(0)
    assert advance(part, Received(1, "theta_0", None)) == Train(1, "theta_0")
    assert advance(part, Trained()) == Submit(1, "theta_0")
    assert advance(part, Submitted()) == Receive(1)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_the_end_of_the_run_ends_the_worker(outcome: Outcome) -> None:
    assert advance(at_round(), Received(5, "base", outcome)) == End(outcome)


def test_a_round_that_needed_no_vote_is_followed_by_the_next() -> None:
    part = at_round(4)
    advance(part, Submitted())
    assert advance(part, Decided(4)) == Receive(4)


def test_the_answer_to_a_vote_may_begin_the_next_round() -> None:
    part = at_round(4)
    assert advance(part, Decided(4, "winner")) == Train(5, "winner")
    assert (part.round, part.base, part.committed) == (5, "winner", 4)
    assert advance(part, Decided(3, "older")) == Receive(4)  # of a round that is long done


@pytest.mark.parametrize("reason", [Reason.LATE_SUBMISSION, Reason.ALREADY_SUBMITTED])
def test_who_comes_late_still_votes(reason: Reason) -> None:
    assert advance(at_round(4), failed(reason)) == Inspect(4, "base")
    assert advance(at_round(4, two_phase=False), failed(reason)) == Receive(4)


@pytest.mark.parametrize("reason", [Reason.WRONG_ROUND, Reason.WRONG_BASE])
def test_who_is_left_behind_asks_for_the_present_model(reason: Reason) -> None:
    assert advance(at_round(4), failed(reason)) == Receive(3)


@pytest.mark.parametrize("reason", sorted(REJOIN))
def test_another_server_is_joined_anew_and_the_round_is_worked_again(reason: Reason) -> None:
    part = at_round(4)
    assert advance(part, failed(reason)) == Join()
    assert advance(part, Joined(3, True)) == Receive(3)  # round 4 may be collected again: its rows are lost
    assert advance(part, Received(4, "base", None)) == Train(4, "base")


def test_what_a_server_that_died_was_sent_in_vain_is_sent_to_the_next_one() -> None:
    part = at_round(4, two_phase=False)
    assert advance(part, Submitted()) == Receive(4)
    assert advance(part, failed(Reason.WRONG_TERM)) == Join()
    assert advance(part, Joined(3, False)) == Receive(3)  # round 4 is not known to be committed
    advance(part, Received(5, "base", None))
    advance(part, Trained())
    advance(part, Submitted())
    assert advance(part, Joined(3, False)) == Receive(5)  # by the same server: it has the momentum


def test_who_is_asked_for_a_lost_model_sends_it_and_joins_again() -> None:
    part = at_round(4)
    assert advance(part, failed(Reason.NOT_JOINED)) == Join()
    assert advance(part, Joined(3, True, "theta_3")) == Restore("theta_3")
    assert advance(part, failed(None, "UNAVAILABLE")) == Again(0)
    assert advance(part, Restored()) == Join()
    assert advance(part, failed(Reason.RECOVERING, "UNAVAILABLE")) == Again(0)
    assert advance(part, Joined(3, True)) == Receive(3)


@pytest.mark.parametrize("event", [Restored(), failed(Reason.REVOKED, "PERMISSION_DENIED")], ids=["after", "before"])
def test_a_worker_that_is_shut_out_after_or_before_it_has_brought_a_model_back_gives_up(event: Event) -> None:
    part = at_round(4)
    advance(part, failed(Reason.NOT_JOINED))
    assert advance(part, Joined(3, True, "theta_3")) == Restore("theta_3")
    assert advance(part, event) == Join()
    assert isinstance(advance(part, failed(Reason.REVOKED, "PERMISSION_DENIED")), GiveUp)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("INVALID_ARGUMENT", Reason.WRONG_DIGEST),
        ("FAILED_PRECONDITION", Reason.LATE_SUBMISSION),
        ("FAILED_PRECONDITION", Reason.WRONG_TERM),
    ],
)
def test_a_model_that_is_not_taken_back_is_no_matter_of_the_round(status: str, reason: Reason) -> None:
    part = at_round(4)
    advance(part, Joined(3, True, "theta_3"))
    assert advance(part, failed(reason, status)) == Join()
    assert advance(part, Joined(3, True)) == Receive(3)


def test_a_worker_never_goes_back_to_a_smaller_term() -> None:
    part = at_round()
    answer = advance(part, Joined(1, True))
    assert isinstance(answer, GiveUp)
    assert "1" in answer.sentence and "2" in answer.sentence
    assert part.term == 2


def test_the_same_term_may_be_joined_twice() -> None:
    assert advance(at_round(4), Joined(2, True)) == Receive(3)


@pytest.mark.parametrize("reason", sorted(FATAL))
def test_what_no_retry_mends_ends_the_worker_with_the_servers_sentence(reason: Reason) -> None:
    assert advance(at_round(), failed(reason)) == GiveUp(f"because of {reason}")


@pytest.mark.parametrize("status", ["PERMISSION_DENIED", "UNAUTHENTICATED"])
def test_who_is_not_let_in_says_so(status: str) -> None:
    assert advance(Part(), failed(Reason.NOT_ON_THE_ROSTER, status)) == GiveUp("because of not on the roster")
    assert advance(at_round(), failed(Reason.NOT_ON_THE_ROSTER, status)) == GiveUp("because of not on the roster")


@pytest.mark.parametrize("status", sorted(UNREACHABLE))
def test_an_unreachable_server_is_tried_again_with_growing_patience(status: str) -> None:
    part = at_round()
    assert [advance(part, failed(None, status)) for _ in range(4)] == [Again(0), Again(1), Again(2), Again(3)]
    advance(part, Submitted())
    assert advance(part, failed(None, status)) == Again(0)


@pytest.mark.parametrize(
    "reason", [Reason.NOT_FINITE, Reason.WRONG_DIGEST, Reason.SECOND_VOTE, Reason.EQUIVOCATION, Reason.EARLY_VOTE]
)
def test_what_the_server_will_not_take_is_not_sent_again(reason: Reason) -> None:
    part = at_round(4)
    assert advance(part, failed(reason, "INVALID_ARGUMENT")) == Receive(4)


def test_a_refused_first_join_ends_the_worker_rather_than_turning_in_circles() -> None:
    assert advance(Part(), failed(Reason.NOT_A_MESSAGE, "INVALID_ARGUMENT")) == GiveUp("because of not a message")


def test_a_decision_of_an_older_round_does_not_send_the_worker_back() -> None:
    part = at_round(4)
    advance(part, Submitted())
    advance(part, Decided(4))
    assert advance(part, Decided(2)) == Receive(4)


Next = Callable[[Part], Event]

# What a server may say, which is trusted not to send an older model than was asked for.
events: st.SearchStrategy[Next] = st.one_of(
    st.builds(lambda term: lambda part: Joined(term, True), st.integers(1, 3)),
    st.builds(lambda ahead: lambda part: Received(part.done + ahead, "x", None), st.integers(1, 3)),
    st.builds(
        lambda event: lambda part: event,
        st.sampled_from([Trained(), Withheld(), Left(), Submitted(), Judged(), Restored()]),
    ),
    st.builds(lambda term: lambda part: Joined(term, False, "wanted"), st.integers(1, 3)),
    st.just(lambda part: Decided(part.round)),
    st.builds(lambda why: lambda part: failed(why[1], why[0]), st.sampled_from(REFUSALS)),
    st.builds(lambda status: lambda part: failed(None, status), st.sampled_from(sorted(UNREACHABLE))),
)


@given(st.lists(events, max_size=40))
def test_whatever_happens_terms_and_committed_rounds_never_go_back(happened: list[Next]) -> None:
    part = Part()
    for event in happened:
        term, committed = part.term, part.committed
        action = advance(part, event(part))
        assert part.term >= term and part.done >= part.committed >= committed
        if isinstance(action, Receive):
            assert action.after == part.done
        if isinstance(action, Submit | Train):
            assert (action.round, action.base) == (part.round, part.base)
        if isinstance(action, Inspect | Vote):
            assert action.round == part.round
