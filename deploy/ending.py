"""How the processes of a run ended, as its launcher saw it: kept in the run's folder, for the summary."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ostrakon.common.files import write_atomically

ENDING = "ending.json"


@dataclass(frozen=True)
class Ending:
    """What no process of the run can write down itself."""

    stopped_by: str | None = None  # what stopped the run before its last round: a signal, as SIGINT, or UNTIL=...
    errors: dict[str, str] = field(default_factory=dict)  # process -> what ended it for good, although the run went on


def keep_ending(folder: Path, ending: Ending) -> None:
    """Write down how it ended."""
    write_atomically(folder / ENDING, (json.dumps(asdict(ending), indent=2) + "\n").encode())


def forget_ending(folder: Path) -> None:
    """A run that goes on has not ended."""
    (folder / ENDING).unlink(missing_ok=True)


def read_ending(folder: Path) -> Ending:
    """How it ended, as far as is known: a launcher that was killed has written nothing."""
    try:
        found = json.loads((folder / ENDING).read_text(encoding="utf-8", errors="replace"))
        errors = {str(name): str(error) for name, error in dict(found["errors"]).items()}
        return Ending(None if found["stopped_by"] is None else str(found["stopped_by"]), errors)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Ending()
