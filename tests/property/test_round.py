"""Rounds under anything that members may do, in any order: what must never happen, and what must happen in the end."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ostrakon.common.choice import Ballot
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.round import (
    Action,
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

CHOICES: list[Choice] = ["inner", "outer"]
NAMES = "abcdefg"


@st.composite
def conditions(draw: st.DrawFn) -> Conditions:
    n = draw(st.integers(1, len(NAMES)))
    return Conditions(
        roster=tuple(NAMES[:n]),
        f=draw(st.integers(0, (n - 1) // 2)),
        asynchronous=draw(st.booleans()),
        grace=draw(st.sampled_from([0.0, 1.0, 3.0])),
        grace_floor=draw(st.sampled_from([0.5, 2.0])),
    )


def open_round(of: Conditions, expected: frozenset[str] | None = None, patience: float = 0.0) -> Round:
    members = frozenset(of.roster) if expected is None else expected
    return Round(of, 3, "base", members, members, opened=0.0, patience=patience)


class AnyOrder(RuleBasedStateMachine):
    """One round. Members submit, resend, equivocate, report, vote again; the aggregator answers; time passes."""

    members = st.integers(0, len(NAMES) - 1)

    @initialize(of=conditions(), absent=st.sets(st.sampled_from(NAMES)), patience=st.sampled_from([0.0, 30.0]))
    def open(self, of: Conditions, absent: set[str], patience: float) -> None:
        self.conditions = of
        self.round = open_round(of, frozenset(of.roster) - absent, patience)
        self.now = 0.0
        self.actions: list[Action] = []
        self.accepted: dict[str, str] = {}  # by the answers that members got
        self.counted: dict[str, Choice] = {}
        self.candidates: tuple[str | None, str | None] | None = None

    def goes_on(self) -> bool:
        return not any(isinstance(action, Diverge) for action in self.actions)

    def member(self, index: int) -> str:
        return self.conditions.roster[index % len(self.conditions.roster)]

    def happen(self, event: Event) -> None:
        action = advance(self.round, event, self.now)
        if action is not None:
            self.actions.append(action)

    @precondition(goes_on)
    @rule(index=members, session=st.sampled_from("st"), digest=st.sampled_from("xy"), base=st.sampled_from("bbbo"))
    def submit(self, index: int, session: str, digest: str, base: str) -> None:
        member = self.member(index)
        base = "base" if base == "b" else "old"
        try:
            needed = admit(self.round, member, session, base, digest)
        except Refused:
            assert member in self.accepted or base == "old" or self.round.phase is not Phase.COLLECTING
            return
        if needed:
            assert member not in self.accepted and base == "base"
            self.accepted[member] = digest
            self.happen(Uploaded(member, session, digest))
        else:
            assert self.accepted[member] == digest

    @precondition(goes_on)
    @rule(index=members)
    def report_not_finite(self, index: int) -> None:
        self.happen(GradientNotFinite(self.member(index)))

    @precondition(goes_on)
    @rule(index=members, choice=st.sampled_from(CHOICES))
    def vote(self, index: int, choice: Choice) -> None:
        member = self.member(index)
        try:
            needed = check_vote(self.round, member, choice)
        except Refused:
            voted_otherwise = self.counted.get(member, choice) != choice
            assert voted_otherwise or self.round.phase in (Phase.COLLECTING, Phase.AGGREGATING)
            return
        if needed:
            assert member not in self.counted
            self.counted[member] = choice
            self.happen(Voted(member, Ballot(choice, 1.0, float("nan"))))

    @precondition(lambda self: self.goes_on() and self.round.phase is Phase.AGGREGATING)
    @rule(inner=st.sampled_from(["x", "y", None]), outer=st.sampled_from(["y", "y", None]))
    def aggregate(self, inner: str | None, outer: str | None) -> None:
        self.candidates = (inner, outer)
        self.happen(Aggregated(inner, outer))

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 10.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.goes_on():
            self.happen(Tick())

    @invariant()
    def one_submission_and_one_vote_a_member(self) -> None:
        assert {member: one.digest for member, one in self.round.submissions.items()} == self.accepted
        assert {member: one.choice for member, one in self.round.votes.items()} == self.counted
        assert set(self.accepted) | set(self.counted) <= set(self.conditions.roster)

    @invariant()
    def no_step_is_taken_twice_or_out_of_order(self) -> None:
        steps = [type(action) for action in self.actions]
        if not self.goes_on():
            assert steps.pop() is Diverge
        assert steps in (
            [],
            [Aggregate],
            [Aggregate, PutToVote],
            [Aggregate, CommitWinner],
            [Aggregate, PutToVote, CommitWinner],
        )

    @invariant()
    def nothing_is_aggregated_below_the_quorum(self) -> None:
        for action in self.actions:
            if isinstance(action, Aggregate):
                n, f = len(self.conditions.roster), self.conditions.f
                k = len(action.members)
                assert k >= n - f
                assert action.members == tuple(m for m in self.conditions.roster if m in self.accepted)
                assert action.f == (f if self.conditions.asynchronous else f - (n - k))
                assert 0 <= 2 * action.f < k
                assert not self.conditions.asynchronous or not self.round.thin

    @invariant()
    def two_different_candidates_are_never_committed_without_a_decided_vote(self) -> None:
        for action in self.actions:
            if not isinstance(action, CommitWinner):
                continue
            assert self.candidates is not None
            inner, outer = self.candidates
            if inner is None or outer is None or inner == outer:
                assert not self.counted
                assert action.choice == ("inner" if inner is not None else "outer")
                continue
            votes = list(self.counted.values())
            lead = abs(votes.count("inner") - votes.count("outer"))
            outstanding = len(self.conditions.roster) - len(votes)
            assert lead > outstanding or len(votes) >= len(self.conditions.roster) - self.conditions.f
            assert action.choice == ("outer" if votes.count("outer") > votes.count("inner") else "inner")

    @invariant()
    def who_did_not_submit_is_missing(self) -> None:
        if self.round.phase not in (Phase.COLLECTING, Phase.DIVERGED):
            assert set(self.round.missing) >= set(self.conditions.roster) - set(self.accepted)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(conditions(), st.data())
def test_if_a_quorum_answers_the_round_is_decided_once_time_has_passed(of: Conditions, data: st.DataObject) -> None:
    n = len(of.roster)
    expected = frozenset(data.draw(st.sets(st.sampled_from(of.roster))))
    round = open_round(of, expected, patience=data.draw(st.sampled_from([0.0, 60.0])))
    answers = st.lists(st.sampled_from(of.roster), unique=True, min_size=of.submissions_needed, max_size=n)
    voters = st.lists(st.sampled_from(of.roster), unique=True, min_size=n - of.f, max_size=n)
    now, actions = 0.0, []
    for member in data.draw(answers):
        now += data.draw(st.floats(0, 100))
        if round.phase is Phase.COLLECTING:
            actions.append(advance(round, Uploaded(member, "s", member), now))
    if round.phase is Phase.COLLECTING:
        deadline = round.deadline()
        assert deadline is not None
        now = max(now, deadline)
        actions.append(advance(round, Tick(), now))
    assert isinstance(actions[-1], Aggregate)
    assert advance(round, Aggregated("x", "y"), now) == PutToVote()
    for member in data.draw(voters):
        now += data.draw(st.floats(0, 100))
        if check_vote(round, member, "inner"):
            choice = data.draw(st.sampled_from(CHOICES))
            actions.append(advance(round, Voted(member, Ballot(choice, 0.0, 0.0)), now))
    if round.phase is Phase.VOTING:
        deadline = round.deadline()
        assert deadline is not None
        actions.append(advance(round, Tick(), max(now, deadline)))
    assert isinstance(actions[-1], CommitWinner)
    assert round.awaited() == () and round.deadline() is None


def decide(
    of: Conditions, submitting: list[str], votes: list[tuple[str, Choice]]
) -> tuple[Action | None, Action | None]:
    """What is aggregated and what is committed when these answer in this order and the others never do."""
    round = open_round(of)
    aggregate = commit = None
    for member in submitting:
        aggregate = advance(round, Uploaded(member, "s", member), 1.0) or aggregate
    aggregate = advance(round, Tick(), 1e6) or aggregate
    advance(round, Aggregated("x", "y"), 1e6)
    for member, choice in votes:
        if check_vote(round, member, choice):
            commit = advance(round, Voted(member, Ballot(choice, 0.0, 0.0)), 1e6) or commit
    return aggregate, advance(round, Tick(), 2e6) or commit


@given(conditions(), st.data())
def test_the_order_of_arrival_never_matters(of: Conditions, data: st.DataObject) -> None:
    n = len(of.roster)
    submitting = data.draw(
        st.lists(st.sampled_from(of.roster), unique=True, min_size=of.submissions_needed, max_size=n)
    )
    voting = data.draw(st.lists(st.sampled_from(of.roster), unique=True, min_size=n - of.f, max_size=n))
    votes: list[tuple[str, Choice]] = [(member, data.draw(st.sampled_from(CHOICES))) for member in voting]
    first = decide(of, submitting, votes)
    assert first == decide(of, data.draw(st.permutations(submitting)), data.draw(st.permutations(votes)))
    assert isinstance(first[1], CommitWinner)
    outer = sum(choice == "outer" for _, choice in votes)
    assert first[1].choice == ("outer" if 2 * outer > len(votes) else "inner")  # all votes, a tie to Inner
