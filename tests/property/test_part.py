"""A worker under a server that may crash, restart and go on without it, over a net that loses requests and answers."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ostrakon.common.reasons import Reason
from ostrakon.worker.part import (
    UNREACHABLE,
    Action,
    Again,
    Decided,
    Event,
    Failed,
    GiveUp,
    Inspect,
    Join,
    Joined,
    Judged,
    Left,
    Part,
    Receive,
    Received,
    Submit,
    Submitted,
    Train,
    Trained,
    Vote,
    Withheld,
    advance,
)


def refused(reason: Reason, status: str = "FAILED_PRECONDITION") -> Failed:
    return Failed(status, reason, f"refused: {reason}")


class Server:
    """What a server answers that keeps the protocol. Its ledger survives it; everything else is one process's."""

    def __init__(self, two_phase: bool) -> None:
        self.two_phase = two_phase
        self.ledger: list[str] = ["theta_0"]  # digests by round
        self.term = 1
        self.begin()

    def begin(self) -> None:
        """A new process, or the next round's first moment in an old one."""
        self.joined = False
        self.open()

    def open(self) -> None:
        self.collecting, self.voting = True, False
        self.submitted: str | None = None
        self.voted = 0

    @property
    def round(self) -> int:
        return len(self.ledger)

    def commit(self) -> None:
        self.ledger.append(f"theta_{self.round}")
        self.open()

    def answer(self, action: Action, term: int) -> Event | None:
        """What the worker hears; None while its call waits."""
        if isinstance(action, Join):
            self.joined = True
            return Joined(self.term, self.two_phase)
        if term != self.term:
            return refused(Reason.WRONG_TERM)
        if not self.joined:
            return refused(Reason.NOT_JOINED)
        match action:
            case Receive(after):
                waits = self.round <= after or not self.collecting
                return None if waits else Received(self.round, self.ledger[-1], None)
            case Submit(round, base):
                return self.submit(round, base)
            case Inspect(round, _):
                if round == self.round - 1:
                    return Decided(round)
                if round != self.round:
                    return refused(Reason.WRONG_ROUND)
                return Judged() if self.voting else None
            case Vote(round):
                return self.vote(round)
        raise AssertionError(action)

    def submit(self, round: int, base: str) -> Event:
        if round != self.round:
            return refused(Reason.WRONG_ROUND)
        if self.submitted is not None:
            return Submitted() if self.submitted == base else refused(Reason.EQUIVOCATION, "ALREADY_EXISTS")
        if not self.collecting:
            return refused(Reason.LATE_SUBMISSION)
        assert base == self.ledger[-1]
        self.submitted = base
        return Submitted()

    def vote(self, round: int) -> Event | None:
        if round < self.round:
            begun = self.collecting and round == self.round - 1
            return Decided(round, self.ledger[-1] if begun else "")
        if round != self.round:
            return refused(Reason.WRONG_ROUND)
        if not self.voting:
            return refused(Reason.EARLY_VOTE)
        self.voted += 1
        return None


class LawfulServer(RuleBasedStateMachine):
    """The worker acts, the net loses, the server crashes, the others go on."""

    @initialize(two_phase=st.booleans())
    def begin(self, two_phase: bool) -> None:
        self.server = Server(two_phase)
        self.worker = Part()
        self.action: Action = Join()
        self.seen = (0, 0, 0)  # term, what is known to be committed, finished round
        self.submissions: dict[int, str] = {}  # base by round, over all terms

    def hear(self, event: Event) -> None:
        action = advance(self.worker, event)
        assert not isinstance(action, GiveUp), (event, action)
        if not isinstance(action, Again):
            self.action = action
        if isinstance(action, Submit):
            assert self.submissions.setdefault(action.round, action.base) == action.base
        if isinstance(action, Vote):
            assert self.server.two_phase and action.round == self.worker.round

    @rule()
    def act(self) -> None:
        if isinstance(self.action, Train):
            self.hear(Trained())
        elif (event := self.server.answer(self.action, self.worker.term)) is not None:
            self.hear(event)

    @precondition(lambda self: not isinstance(self.action, Train))
    @rule(status=st.sampled_from(sorted(UNREACHABLE)), arrives=st.booleans())
    def lose(self, status: str, arrives: bool) -> None:
        """The request is lost, or its answer."""
        if arrives:
            self.server.answer(self.action, self.worker.term)
        self.hear(Failed(status, "", "lost"))

    @precondition(lambda self: isinstance(self.action, Train))
    @rule()
    def withhold(self) -> None:
        self.hear(Withheld())

    @precondition(lambda self: isinstance(self.action, Train | Inspect))
    @rule()
    def leave(self) -> None:
        """Whoever computes sits out the round."""
        self.hear(Left())

    @rule()
    def restart(self) -> None:
        self.server.term += 1
        self.server.begin()

    @rule(now=st.sampled_from(["closed", "proposed", "committed"]))
    def others(self, now: str) -> None:
        """The others do not wait for this worker."""
        if now == "closed":
            self.server.collecting = False
        elif now == "proposed" and self.server.two_phase:
            self.server.collecting, self.server.voting = False, True
        elif now == "committed":
            self.server.commit()

    @invariant()
    def nothing_goes_back_but_what_a_dead_server_has_not_committed(self) -> None:
        now = (self.worker.term, self.worker.committed, self.worker.done)
        assert now[:2] >= self.seen[:2] and now[1] >= self.seen[1]
        assert now[2] >= self.seen[2] or (now[0] > self.seen[0] and now[2] == now[1])
        assert self.worker.term <= self.server.term and self.worker.committed < self.server.round
        self.seen = now

    def teardown(self) -> None:
        """From wherever it is, a worker is back in the run soon, if nothing fails any more."""
        if not hasattr(self, "server"):
            return
        for _ in range(12):
            if self.server.submitted is not None:
                break
            stuck = isinstance(self.action, Receive) and (
                not self.server.collecting or self.action.after >= self.server.round
            )
            if stuck or (isinstance(self.action, Inspect | Vote) and self.action.round == self.server.round):
                self.server.commit()
            self.act()
        assert self.server.submitted == self.server.ledger[-1], self.action


TestLawfulServer = LawfulServer.TestCase
TestLawfulServer.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
