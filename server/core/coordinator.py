"""Round after round: what 2PRASHB (Algorithm 3) does at the server.

The impure half beside `round.py`: it performs the round's actions, one after the other. Clock, store, ledger and
aggregator are handed to it. The workers' calls come in through `calls.py`, which reads the state kept here.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import replace
from statistics import median

import structlog

from ostrakon.common.choice import Choice, Outcome
from ostrakon.common.clock import Clock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Missing
from ostrakon.common.runtime import peak_bytes
from ostrakon.server.core import round as rounds
from ostrakon.server.core.aggregator import Aggregator, Candidate
from ostrakon.server.core.commit import Offload, check_not_taken_over, make_durable
from ostrakon.server.core.metrics import Metrics, Stopwatch, Traffic
from ostrakon.server.core.proposal import Proposal, entry_of
from ostrakon.server.core.refusal import Refusals
from ostrakon.server.core.revocation import seated
from ostrakon.server.core.roster import Roster
from ostrakon.server.core.streams import Streams
from ostrakon.server.core.uploads import Uploads, upload_slots
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.ledger import Entry, Ledger
from ostrakon.server.storage.model_store import ModelKey, ModelStore
from ostrakon.server.storage.run import OpenRun

log = structlog.get_logger()


class Coordinator:
    """One server process's life with one run."""

    def __init__(
        self,
        settings: ServerSettings,
        run: OpenRun,
        term: int,
        *,
        two_phase: bool,
        ledger: Ledger,
        store: ModelStore,
        aggregator: Aggregator,
        clock: Clock,
        metrics: Metrics,
        offload: Offload = asyncio.to_thread,
        revoked: Callable[[], frozenset[Identity]] = frozenset,
        started: float | None = None,
    ) -> None:
        """`offload(function, *args)` runs blocking work off the event loop; `revoked` is asked before each round who is
        shut out; `started`: when, by the clock, this server process began (now, if not given).
        """
        self.settings = settings
        self.chain = run
        self.term = term
        self.two_phase = two_phase
        self.clock = clock
        self.ledger = ledger
        self.aggregator = aggregator
        self.offload = offload
        self._store = store
        self._metrics = metrics

        self.finished: Outcome | None = None

        # The round that is being decided.
        self.roster = Roster(settings.roster, settings.absent_after, revoked=run.revoked)
        self.conditions = self._conditions()
        self._revoked = revoked
        self.proposal = Proposal()
        self.uploads = Uploads(upload_slots(settings), settings.upload_timeout, settings.upload_rate, settings.wire)
        self.readers = Streams[Identity]()  # of models
        self.refusals = Refusals()
        self.reported_loss: float | None = None  # median of what the members of the last round reported
        self._writing: asyncio.Task[dict[str, ModelKey]] | None = None

        self.started = clock.now() if started is None else started
        self.traffic = Traffic()
        self._stopwatch = Stopwatch(clock.now)
        self._counted = Traffic()  # what earlier rounds' metrics hold already
        self.seconds_to_first_commit: float | None = None
        self._action: rounds.Action | None = None
        self._failure: OstrakonError | None = None
        self._stirred = asyncio.Event()  # something has happened to the round: `run` looks at it
        self._changed = asyncio.Event()  # calls that wait may be answered now
        self.round = self._open_round(patience=settings.join_timeout)

    @property
    def head_round(self) -> int:
        """The last committed round, 0 before the first."""
        return self.chain.round

    def elapsed(self) -> float:
        """Seconds since this server began."""
        return rounded(self.clock.now() - self.started)

    async def run(self) -> Outcome:
        """Commit round after round until the last one, or until the model has blown up.

        Raises:
            OstrakonError: the run cannot go on (another server took over, no space left, an old ledger).
        """
        self._metrics.record("started", term=self.term, round=self.head_round)
        while self.finished is None:
            if self.head_round >= self.settings.rounds:
                self._finish("completed")
                continue
            match await self._next_action():
                case rounds.Aggregate(members, f):
                    await self._aggregate(members, f)
                case rounds.PutToVote():
                    # The candidates' files are written while the workers vote.
                    self._writing = asyncio.create_task(self._write_candidates())
                    self._writing.add_done_callback(lambda _: self.notify())
                case rounds.CommitWinner(choice):
                    await self._commit(choice)
                case rounds.Diverge(why):
                    log.warning("diverged", why=why)
                    self._finish("diverged")
        return self.finished

    async def _next_action(self) -> rounds.Action:
        """Wait until the round says what to do next."""
        stalled = self.round.phase_opened + max(self.round.patience, self.settings.grace_floor)
        while True:
            if self._failure is not None:
                raise self._failure
            if self._writing is not None and self._writing.done():
                self._writing.result()  # a full disk ends the run now, not when the vote is decided
            if self._action is not None:
                action, self._action = self._action, None
                return action
            deadline = self.round.deadline()
            await self.clock.wait(self._stirred, stalled if deadline is None else deadline)
            if self.clock.now() >= stalled and (why := self.waiting()):
                stalled = math.inf  # said once a phase
                log.warning("waiting", why=why)
                self.notify()
            self.step(rounds.Tick())

    def step(self, event: rounds.Event) -> None:
        """Let one event happen to the round; what is to be done about it is done by `run`."""
        phase = self.round.phase
        action = rounds.advance(self.round, event, self.clock.now())
        if action is not None:
            self._action = action
        if self.round.phase is not phase:
            self._stopwatch.lap(phase.value)
            self.notify()
        elif not isinstance(event, rounds.Tick):
            self._stir()

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = asyncio.Event()

    def notify(self) -> None:
        """Wake everybody who waits for a change of state: hundreds of calls, where there are as many workers."""
        self._stir()
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool], deadline: float | None = None) -> None:
        """Return when the condition holds, or at the deadline at the latest."""
        while not condition() and (deadline is None or self.clock.now() < deadline):
            await self.clock.wait(self._changed, deadline)

    def _conditions(self) -> rounds.Conditions:
        settings = self.settings
        return rounds.Conditions(
            seated(settings, self.roster.shut_out()),
            settings.f,
            settings.quorum == "asynchronous",
            settings.grace,
            settings.grace_floor,
        )

    def _open_round(self, patience: float = 0.0) -> rounds.Round:
        self._shut_out(self._revoked())
        return rounds.Round(
            conditions=self.conditions,
            number=self.head_round + 1,
            base=self.chain.digest,
            expected=self.roster.expected(),
            voters=self.roster.voters(),
            opened=self.clock.now(),
            patience=patience,
            revoked=self.roster.shut_out(),
            unreadable=frozenset(self.roster.unreadable),
        )

    def tell_unreadable(self, member: str, why: str) -> None:
        """A member says why it cannot read its data, or, with "", that it can: it is waited for accordingly."""
        if self.roster.tell_unreadable(member, why):
            if why:
                log.warning("data not readable", member=member, why=why)
            self.step(rounds.Unreadable(frozenset(self.roster.unreadable)))

    def _shut_out(self, revoked: frozenset[Identity]) -> None:
        """Between two rounds: end the part that these have in the run."""
        news = revoked - self.roster.revoked
        if not news:
            return
        self.roster.revoke(news)
        self.conditions = self._conditions()
        for identity in news:
            self.readers.close(identity)
        log.warning(
            "revoked",
            who=", ".join(sorted(identity.urn for identity in news)),
            from_round=self.head_round + 1,
            members_left=len(self.settings.roster) - len(self.roster.shut_out()),
            seats=len(self.conditions.roster),
            f=self.conditions.f,
        )

    async def _aggregate(self, members: tuple[str, ...], f: int) -> None:
        self.uploads.close_all()
        candidates = await self.offload(
            self.aggregator.candidates,
            self.chain.theta,
            [self.roster.position(member) for member in members],
            f,
            self.settings.gamma,
        )
        choices: tuple[Choice, ...] = ("inner", "outer")
        finite = {c: found for c, found in zip(choices, candidates, strict=False) if found is not None}
        self.proposal = Proposal(finite, members)
        self.step(rounds.Aggregated(self.proposal.digest("inner"), self.proposal.digest("outer")))

    async def _write_candidates(self) -> dict[str, ModelKey]:
        """Make the candidates durable, one after the other; their keys by digest."""
        written: dict[str, ModelKey] = {}
        for candidate in self.proposal.candidates.values():
            if candidate.digest not in written:
                try:
                    key = await self.offload(self._store.write, candidate.theta, self.chain.running_sum)
                except OstrakonError:
                    # A successor sweeps away what this one was writing while it was stopped: that is then the reason.
                    await self.offload(check_not_taken_over, self.ledger, self.term)
                    raise
                written[candidate.digest] = key
        return written

    async def _commit(self, choice: Choice) -> None:
        """The winner's file, then the ledger entry, then the announcement."""
        written = await (self._writing or self._write_candidates())
        self._writing = None
        winner = self.proposal.candidates[choice]
        entry = entry_of(
            self.round,
            self.proposal,
            choice,
            written[winner.digest],
            roster=self.settings.roster,
            refused=self.refusals.take(),
            term=self.term,
            seconds=rounded(self.clock.now() - self.round.opened),
            previous=self.chain.head_hash,
        )
        await make_durable(entry, self.ledger, self.offload)
        losers = [key for key in written.values() if key.digest != winner.digest]
        self._adopt(entry, winner)
        if self.head_round < self.settings.rounds:
            self.round = self._open_round()
        self.notify()
        await self.offload(self._forget, losers)

    def _forget(self, losers: list[ModelKey]) -> None:
        """Delete what this server wrote and nobody needs. What it does not know may be a successor's."""
        kept = self.chain.kept
        while len(kept) > self.settings.keep_models:
            losers.append(kept.pop(0))
        for key in losers:
            if key not in kept:  # a model of zeros, in whatever round, is one file
                self._store.delete(key)

    def _adopt(self, entry: Entry, winner: Candidate) -> None:
        """The entry is durable: it is the head now."""
        round = self.round
        self.chain.adopt(entry, winner.theta)
        self.proposal = Proposal()
        self.readers.close_all()  # of models that are not worth reading any more; they would keep them in memory
        self.roster.close_round(
            submitted=round.not_finite | round.submissions.keys(),
            voted=round.votes.keys(),
            unheard={member for member, why in round.missing.items() if why in (Missing.SILENT, Missing.NO_VOTE)},
        )
        finite = [one.loss for one in round.submissions.values() if math.isfinite(one.loss)]
        self.reported_loss = median(finite) if finite else None
        if self.seconds_to_first_commit is None:
            self.seconds_to_first_commit = self.elapsed()
        self._stopwatch.lap(round.phase.value)
        tally = Counter(vote.choice for vote in entry.votes)
        self._metrics.record(
            "round",
            round=entry.round,
            seconds=entry.seconds,
            elapsed=self.elapsed(),
            winner=entry.choice,
            votes=[tally[entry.choice], len(entry.votes) - tally[entry.choice]],
            reported_loss=self.reported_loss,
            bytes_received=self.traffic.received - self._counted.received,
            bytes_sent=self.traffic.sent - self._counted.sent,
            thin=entry.thin,
            phases=self._stopwatch.phases(),
            late_votes=self.traffic.late_votes - self._counted.late_votes,
            peak_bytes=peak_bytes(),
        )
        self._counted = replace(self.traffic)

    def fail(self, error: OstrakonError) -> None:
        """End the run with this error at the next step."""
        self._failure = error
        self.notify()

    def _finish(self, status: Outcome) -> None:
        self.finished = status
        log.info("finished", status=status, round=self.head_round)
        self.notify()

    def waiting(self) -> str:
        """Why the run is held up, in a sentence; empty if it is not."""
        round = self.round
        held = self.clock.now() - round.phase_opened >= max(round.patience, self.settings.grace_floor)
        if self.finished is not None or not held:
            return ""
        have: Set[str]
        if round.phase is rounds.Phase.COLLECTING and round.quorum_at is None:
            have, need, what = round.submissions.keys(), self.conditions.submissions_needed, "momentum vectors"
        elif round.phase is rounds.Phase.VOTING and round.quorum_at is None:
            have, need, what = round.votes.keys(), self.conditions.votes_needed, "votes"
        else:
            return ""
        others = ", ".join(
            f"{m} ({Missing.DATA_NOT_READABLE})" if m in round.unreadable else m
            for m in round.conditions.roster
            if m not in have and m not in round.revoked
        )
        return f"round {round.number} has {len(have)} of the {need} {what} it needs; waiting for {others}"


def rounded(seconds: float) -> float:
    """Seconds as they are kept, to the tenth of a millisecond."""
    return round(seconds, 4)
