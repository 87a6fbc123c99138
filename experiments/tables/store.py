"""What is kept of runs: one small file each, named by a digest of all that the run follows from."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ostrakon.common.errors import OstrakonError, file_trouble, readable
from ostrakon.common.files import write_atomically
from ostrakon.common.setting_types import Settings
from ostrakon.experiments.experiment import Experiment, Measurement, Result

EDITION = 1  # count it up when the same settings come to give other results

_WHERE_ONLY = {"device", "data"}  # say where a run is computed; of data, the content counts
_ADDED = {"weight_decay": 0.0, "clip": None}  # settings that there were not always, and what was done before


class Record(Settings):
    """What is kept of one run.

    Attributes:
        outcome: `failed` where it could not be computed, for the reason in `error`.
        measurements: round, mean accuracy over the workers' own test sets, accuracy on the common one.
        rounds_of_inner: how many rounds Inner's candidate won.
        seconds: how long it took, alone or with those beside it.
        device: where it was computed.
    """

    outcome: Literal["completed", "diverged", "failed"]
    error: str | None = None
    measurements: tuple[tuple[int, float, float], ...] = ()
    rounds_of_inner: int = 0
    seconds: float = 0
    device: str = ""

    @property
    def measured(self) -> list[Measurement]:
        """The measurements; after the round in which a run diverged there is no model, and nothing is answered."""
        return [Measurement(*one) for one in self.measurements]

    def last(self, rounds: int) -> Measurement:
        """The measurement of the last of all rounds: nothing is answered by a model that diverged."""
        return self.measured[-1] if self.outcome == "completed" else Measurement(rounds, 0.0, 0.0)


def record(result: Result) -> Record:
    """What is kept of a run that was computed."""
    return Record(
        outcome="diverged" if result.outcome == "diverged" else "completed",
        measurements=tuple((one.round, one.accuracy, one.pooled) for one in result.accuracy),
        rounds_of_inner=result.winners.count("inner"),
        seconds=round(result.seconds, 1),
        device=result.experiment.device,
    )


class Store:
    """The records in a folder. What was recorded of other settings, other data or another edition is never found."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, experiment: Experiment) -> Record | None:
        """What is known of a run; None where nothing is, or what is written there is no record of it.

        Raises:
            OstrakonError: its data cannot be read.
        """
        settings = _settings(experiment)
        try:
            found = json.loads(self._path(settings).read_text(encoding="utf-8"))
            return Record.model_validate(found["record"]) if found["settings"] == settings else None
        except (FileNotFoundError, ValueError, KeyError, TypeError, ValidationError, RecursionError):
            return None

    def write(self, experiment: Experiment, record: Record) -> None:
        """Keep what is known of a run, in place of what was known before.

        Raises:
            OSError: it cannot be written; the error names the file.
        """
        settings = _settings(experiment)
        content = json.dumps({"settings": settings, "record": record.model_dump(mode="json")}, indent=1)
        write_atomically(self._path(settings), f"{content}\n".encode())

    def _path(self, settings: dict[str, Any]) -> Path:
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{name}.json"


def _settings(experiment: Experiment) -> dict[str, Any]:
    """All that a run follows from, but for the code of a user's task."""
    as_before = {name for name, value in _ADDED.items() if getattr(experiment, name) == value}
    settings = experiment.model_dump(mode="json", exclude=_WHERE_ONLY | as_before)
    data = None if experiment.data is None else content(experiment.data)
    return {**settings, "f": experiment.bound, "data": data, "edition": EDITION}


@cache
def content(path: Path) -> str:
    """A digest of a file, or of all files in a folder with their names.

    Raises:
        OstrakonError: it cannot be read.
    """
    whole = hashlib.sha256()
    try:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as opened:
                own = hashlib.file_digest(opened, "sha256").digest()
            whole.update(own if file == path else f"{file.relative_to(path)}\n".encode() + own)
    except OSError as error:
        why = file_trouble(error) or f"{readable(path)} cannot be read ({error.strerror})"
        raise OstrakonError(f"DATA={readable(path)}: {why}") from None
    return whole.hexdigest()
