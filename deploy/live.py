"""What a run shows while it runs: one live table in a terminal, plain lines anywhere else."""

import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ostrakon.common.names import written
from ostrakon.common.reasons import Missing, Reason, Why, from_wire
from ostrakon.deploy.measured import Measurement
from ostrakon.deploy.settings import RunSettings
from ostrakon.v1 import parameter_server_pb2 as pb

_RATE_WINDOW = 10.0  # seconds
_LINE_SECONDS = 5.0  # a plain line at least so often, while rounds go on ...
_LINE_SHARE = 0.1  # ... and whenever so much more of the run is done
_CHOICES = {pb.CHOICE_INNER: "Inner", pb.CHOICE_OUTER: "Outer"}


@dataclass
class Progress:
    """All that is known of a run that is running."""

    settings: RunSettings
    status: pb.StatusResponse | None = None  # None until the server has answered
    measured: Measurement | None = None  # of the last committed model that was measured
    measurements: dict[int, Measurement] = field(default_factory=dict)  # by round; the last one of each counts
    restarts: dict[str, int] = field(default_factory=dict)  # process -> how often
    _past: deque[tuple[float, int]] = field(default_factory=deque)

    def measure(self, found: Measurement) -> None:
        """Take in what the evaluator has measured."""
        self.measured = self.measurements[found.round] = found

    def update(self, status: pb.StatusResponse, now: float) -> None:
        """Take in what the server answered at `now`, in seconds."""
        self.status = status
        self._past.append((now, self.round))
        while now - self._past[0][0] > _RATE_WINDOW:
            self._past.popleft()

    @property
    def round(self) -> int:
        """The last committed round."""
        return 0 if self.status is None else int(self.status.committed.head.round)

    @property
    def rate(self) -> float:
        """Rounds a second, lately."""
        if len(self._past) < 2:
            return 0.0
        (then, before), (now, after) = self._past[0], self._past[-1]
        return max(0.0, (after - before) / (now - then))

    def title(self) -> str:
        s = self.settings
        against = f" against {s.against()}" if s.against() else ""
        learned = written(s.task, s.options or {})
        return f"run {s.run}: {s.rule}{against}, n = {s.workers}, {s.byzantine} of them Byzantine, f = {s.f}, {learned}"

    @property
    def headline(self) -> str:
        """The name of what stands for a model."""
        return "accuracy" if self.measured is None else self.measured.headline

    def headline_value(self) -> str:
        found = self.measured
        if found is None:
            return "not measured yet"
        loss = f"{found.loss:.3g}" if math.isfinite(found.loss) else "not finite"
        return f"{found.shown(found.headline)}, test loss {loss} (round {found.round})"

    def others(self) -> list[tuple[str, str]]:
        """Names and values of what else is measured."""
        found = self.measured
        return [] if found is None else [(f"test {name}", found.shown(name)) for name in list(found.values)[1:]]

    def last_vote(self) -> str:
        status = self.status
        if status is None or status.last_winner not in _CHOICES:
            return ""
        if not status.winner_votes:
            return f"{_CHOICES[status.last_winner]}, no vote was needed"
        return f"{_CHOICES[status.last_winner]}, {status.winner_votes} votes to {status.loser_votes}"

    def facts(self) -> list[tuple[str, str]]:
        """Name and value of every row; rows about trouble are there only while there is any."""
        status = self.status
        rows = [(f"test {self.headline}", self.headline_value()), *self.others()]
        if status is None:
            rows.append(("waiting", "for the server to answer"))
        else:
            reported = f"{status.reported_loss:.3g}" if status.HasField("reported_loss") else "none yet"
            rows += [
                ("loss, as the workers report it", reported),
                ("last round", self.last_vote() or "none yet"),
                ("won so far", f"Inner {status.inner_wins}, Outer {status.outer_wins}"),
                ("awaited", ", ".join(status.awaited) or "nobody"),
            ]
            trouble = [
                ("no longer awaited", ", ".join(status.absent)),
                ("data not readable", "; ".join(_unreadable(status))),
                ("revoked", ", ".join(status.revoked)),
                ("missing", _counts((c.worker, _word(Missing, c.reason), c.rounds) for c in status.missing)),
                ("refused", _counts((c.worker, _word(Reason, c.reason), c.count) for c in status.refused)),
                ("waiting", status.waiting),
            ]
            rows += [(name, value) for name, value in trouble if value]
        if self.restarts:
            rows.append(("started again", ", ".join(f"{name} x{count}" for name, count in self.restarts.items())))
        return rows

    def line(self) -> str:
        """The most important of it in one line."""
        measured = f"{self.headline} {self.headline_value()}"
        parts = [f"round {self.round}/{self.settings.rounds}", f"{self.rate:.1f}/s", measured]
        if self.last_vote():
            parts.append(f"last round: {self.last_vote()}")
        return ", ".join(parts)


class Screen(Protocol):
    """Where a run is shown."""

    def show(self, progress: Progress) -> None:
        """Show where the run stands."""

    def say(self, sentence: str) -> None:
        """Show an event."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def screen() -> Screen:
    """The one that suits standard output."""
    console = Console()
    return Terminal(console) if console.is_terminal else Lines()


class Terminal:
    """A table that is drawn over again, with events above it."""

    def __init__(self, console: Console) -> None:
        # No thread of its own draws it: whoever shows something draws.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, progress: Progress) -> None:
        self._live.update(table(progress), refresh=True)

    def say(self, sentence: str) -> None:
        self._live.console.print(Text(sentence))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class Lines:
    """One line now and then, and one for each event."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic()
        self._shown_round = 0
        self._told: set[str] = set()

    def show(self, progress: Progress) -> None:
        self._tell_news(progress)
        now = time.monotonic()
        gained = progress.round - self._shown_round
        due = now - self._shown_at >= _LINE_SECONDS or gained >= _LINE_SHARE * progress.settings.rounds
        if progress.round and gained and due:
            self.say(progress.line())
            self._shown_at, self._shown_round = now, progress.round

    def say(self, sentence: str) -> None:
        print("".join(letter if letter.isprintable() else "?" for letter in sentence), flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def _tell_news(self, progress: Progress) -> None:
        status = progress.status
        if status is None:
            if time.monotonic() - self._shown_at >= _LINE_SECONDS:
                self.say("waiting for the server to answer")
                self._shown_at = time.monotonic()
            return
        news = {f"refused: {_who(count.worker)}, {_word(Reason, count.reason)}" for count in status.refused}
        news |= {f"no longer awaited: {worker}" for worker in status.absent}
        news |= {f"data not readable: {sentence}" for sentence in _unreadable(status)}
        if status.waiting:
            news.add(f"waiting: {status.waiting}")
        for sentence in sorted(news - self._told):
            self.say(sentence)
        # What has passed is news again when it comes back.
        self._told = news


def table(progress: Progress) -> Group:
    """The progress of a run for a terminal."""
    total = progress.settings.rounds
    bar = Table.grid(padding=(0, 1))
    rate = f"{progress.rate:.1f}/s" if progress.rate else ""
    bar.add_row(ProgressBar(total, progress.round, width=40), f"{progress.round} of {total} rounds", rate)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for name, value in progress.facts():
        facts.add_row(Text(name), Text(value))
    return Group(Text(progress.title(), style="bold"), bar, facts)


def _counts(counts: Iterable[tuple[str, str, int]]) -> str:
    return "; ".join(f"{_who(worker)}: {word} x{count}" for worker, word, count in counts)


def _word(kind: type[Why], number: int) -> str:
    return from_wire(kind, number) or "another reason"


def _unreadable(status: pb.StatusResponse) -> list[str]:
    """Workers that cannot read their data, each with its own words."""
    return [f"{worker}: {why}" for worker, why in sorted(status.data_not_readable.items())]


def _who(worker: str) -> str:
    return worker or "a caller that is not on the roster"
