"""What a run leaves in its folder, read back: ledger, metrics, measurements. All of it survives kill -9."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.common.run_files import EVALUATIONS, LEDGER, METRICS, SETTINGS
from ostrakon.common.schedule import NONE, read_schedule
from ostrakon.common.settings import read
from ostrakon.deploy.ending import Ending, read_ending
from ostrakon.deploy.measured import Measurement, of_average, of_model
from ostrakon.deploy.settings import RunSettings
from ostrakon.server.storage.ledger import Entry, Genesis
from ostrakon.server.storage.ledger.sqlite import opened_to_read


@dataclass
class Life:
    """One server process: what it measured of its rounds, and how it ended."""

    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)  # by round; see `round` events in metrics.jsonl
    finished: dict[str, Any] | None = None  # None: it was killed, or it lives

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All that it measured."""
        return [*self.rounds.values(), *([] if self.finished is None else [self.finished])]

    @property
    def seconds(self) -> float:
        """How long it lived, as far as is known."""
        if self.finished is not None:
            return float(self.finished["seconds"])
        return max((float(line["elapsed"]) for line in self.rounds.values()), default=0.0)


@dataclass(frozen=True)
class Record:
    """Everything that a run has left behind."""

    name: str
    genesis: Genesis | None
    entries: tuple[Entry, ...]
    lives: tuple[Life, ...]
    measurements: tuple[Measurement, ...]  # by round
    average: Measurement | None  # of the average of the committed models
    ending: Ending  # as its launcher saw it
    against: str  # what the liars do, see `RunSettings.against`; empty: nobody lies, or the run was not started here
    attack_changes: tuple[tuple[int, str], ...]  # the rounds from which the liars' attack is another one, and its name

    @property
    def status(self) -> str:
        """How the last server process ended: completed, diverged, stopped; interrupted where nobody has written an end.

        A run that its launcher was told to stop was stopped, although its server may have had to be killed.
        """
        finished = self.lives[-1].finished if self.lives else None
        if finished is None:
            return "interrupted" if self.ending.stopped_by is None else "stopped"
        return str(finished["status"])

    @property
    def rounds(self) -> int:
        """How many are committed."""
        return self.entries[-1].round if self.entries else 0

    @property
    def headline(self) -> str:
        """The name of the measure that stands for a model."""
        found = self.measurements[-1:] or ([self.average] if self.average else [])
        return found[0].headline if found else "accuracy"

    @property
    def headline_is_a_share(self) -> bool:
        return all(self.headline in one.shares for one in self.measurements)

    @property
    def rule(self) -> str:
        return str(self._setting("rule"))

    @property
    def n(self) -> int:
        return len(self._setting("roster"))

    @property
    def f(self) -> int:
        return int(self._setting("f"))

    @property
    def task(self) -> str:
        return str(self._setting("task"))

    def _setting(self, name: str) -> Any:
        if self.genesis is None:
            raise OstrakonError(f"run {self.name} has committed nothing yet: start or resume it first")
        return self.genesis.settings[name]


def read_record(folder: Path) -> Record:
    """Read a run's folder.

    Raises:
        OstrakonError: it holds no ledger, or ledger or settings are damaged.
    """
    if not (folder / LEDGER).is_file():
        raise OstrakonError(f"{folder} holds no ledger: give the folder of a run that was started, as in runs/default")
    settings = read(RunSettings, folder / SETTINGS) if (folder / SETTINGS).is_file() else None
    with opened_to_read(folder / LEDGER) as ledger:
        genesis, entries = ledger.genesis(), tuple(ledger.entries())
    measurements: dict[int, Measurement] = {}
    average: Measurement | None = None
    for line in read_lines(folder / EVALUATIONS):
        if (found := of_model(line)) is not None:
            measurements[found.round] = found  # rounds repeat after a resume: the last one counts
        average = of_average(line) or average
    return Record(
        name=folder.name,
        genesis=genesis,
        entries=entries,
        lives=_lives(folder / METRICS),
        measurements=tuple(measurements[round] for round in sorted(measurements)),
        average=average,
        ending=read_ending(folder),
        against="" if settings is None else settings.against(),
        attack_changes=() if settings is None else _attack_changes(settings),
    )


def is_over(folder: Path, rounds: int) -> bool:
    """Whether nothing is left to do in a run of so many rounds.

    Raises:
        OstrakonError: ledger or settings are damaged.
    """
    if not (folder / LEDGER).exists():
        return False
    record = read_record(folder)
    return record.status == "diverged" or (record.status == "completed" and record.rounds >= rounds)


def last_round(folder: Path) -> int:
    """The last committed round; 0 where none is.

    Raises:
        OstrakonError: the ledger is damaged.
    """
    if not (folder / LEDGER).exists():
        return 0
    with opened_to_read(folder / LEDGER) as ledger:
        head = ledger.head()
    return 0 if head is None else head.round


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file that is written line by line; lines torn by a crash are left out."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _lives(path: Path) -> tuple[Life, ...]:
    lives: list[Life] = []
    for line in read_lines(path):
        if line["event"] == "started" or not lives:
            lives.append(Life())
        if line["event"] == "round":
            lives[-1].rounds[int(line["round"])] = line
        elif line["event"] == "finished":
            lives[-1].finished = line
    return tuple(lives)


def _attack_changes(settings: RunSettings) -> tuple[tuple[int, str], ...]:
    if settings.team or not settings.byzantine:
        return ()
    stages = read_schedule(settings.attack, str).stages
    return tuple((round, name or NONE) for round, name in stages if round > 1)
