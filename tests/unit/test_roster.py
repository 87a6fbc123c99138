"""Who is worth waiting for."""

from itertools import pairwise

from ostrakon.common.identity import Identity
from ostrakon.server.core.roster import KnownHead, Roster


class Rounds:
    """Rounds in which everybody but `a` is in time."""

    def __init__(self, absent_after: int) -> None:
        self.roster = Roster(("a", "b", "c"), absent_after)
        self.number = 0
        self.waited_in_vain: list[int] = []

    def play(self, *, late: bool) -> None:
        """One round: `a` submits too late, or not at all; if it is waited for, it is in vain."""
        self.number += 1
        expected = self.roster.expected()
        if "a" in expected:
            self.waited_in_vain.append(self.number)
        if late:
            self.roster.come_too_late("a", self.number - 1)
        self.roster.close_round({"b", "c"}, {"b", "c"}, {"a"} & expected)


def test_who_has_been_missing_for_several_rounds_is_not_waited_for() -> None:
    rounds = Rounds(absent_after=3)
    for _ in range(50):
        rounds.play(late=False)
    assert rounds.waited_in_vain == [1, 2, 3]
    assert rounds.roster.absent() == ("a",)


def test_who_comes_too_late_after_that_is_waited_for_once_more_and_stays_if_that_helps() -> None:
    for absent_after in (1, 3):
        rounds = Rounds(absent_after)
        for _ in range(20):
            rounds.play(late=False)
        rounds.play(late=True)
        assert "a" in rounds.roster.expected()
        rounds.roster.close_round({"a", "b", "c"}, set(), set())
        assert "a" in rounds.roster.expected()


def test_who_comes_too_late_for_ever_keeps_the_others_waiting_ever_less_often() -> None:
    rounds = Rounds(absent_after=1)
    for _ in range(1000):
        rounds.play(late=True)
    waits = rounds.waited_in_vain
    assert len(waits) <= 12
    gaps = [after - before for before, after in pairwise(waits[1:])]
    assert gaps == sorted(gaps)


def test_who_submits_and_never_votes_is_not_waited_for_in_the_vote_until_it_votes() -> None:
    roster, everybody = Roster(("a", "b", "c"), absent_after=2), {"a", "b", "c"}
    for round in range(3):
        assert roster.voters() == (everybody if round < 2 else {"a", "b"})
        roster.close_round(submitted=everybody, voted={"a", "b"}, unheard={"c"})
    assert roster.expected() == everybody
    roster.close_round(submitted=everybody, voted={"a", "b"}, unheard=set())  # decided before: it was not waited for
    assert roster.voters() == {"a", "b"}
    roster.close_round(submitted=everybody, voted=everybody, unheard=set())
    assert roster.voters() == everybody


def test_what_a_revoked_member_remembers_counts_no_more() -> None:
    roster = Roster(("a", "b"), absent_after=2)
    for member in ("a", "b"):
        roster.join(member, f"session of {member}", KnownHead(9, "invented"))
    assert roster.ahead_of(3, "known") == ["a", "b"]
    roster.revoke(frozenset({Identity("worker", "a")}))
    assert roster.ahead_of(3, "known") == ["b"] and roster.sessions.keys() == {"b"}
