"""What a run leaves behind whose ledger was deleted or emptied: nothing is begun anew on top of it."""

from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.common.run_files import LEDGER, METRICS, MODELS
from ostrakon.server.storage.initial import Initial
from ostrakon.server.storage.model_store import ModelStore, initial_key

ROUND_EVENT = b'{"event": "round"'  # how a committed round's line of the metrics begins


def check_ledger_is_there(directory: Path, store: ModelStore, initial: Initial) -> None:
    """Check that a run's ledger is where it was, before a new one is made in its place.

    Raises:
        OstrakonError: naming what a run has left, whose ledger is gone. Nothing is deleted.
    """
    if not _size(directory / LEDGER):
        check_nothing_lost(directory, store, initial)


def check_nothing_lost(directory: Path, store: ModelStore, initial: Initial) -> None:
    """Check, where there is no ledger or an empty one, that no run was ever committed in this folder.

    Raises:
        OstrakonError: naming what a run has left, whose ledger is gone. Nothing is deleted.
    """
    ledger, metrics = directory / LEDGER, directory / METRICS
    # A crash between the first model and the genesis leaves theta_0, and nothing is lost with it.
    others = store.others([initial_key(initial.digest, initial.model.theta.size)] if initial.exists else [])
    if others:
        left = f"{directory / MODELS} holds committed models ({others[-1]})"
    elif metrics.exists() and ROUND_EVENT in metrics.read_bytes():
        left = f"{metrics} tells of committed rounds"
    elif _size(ledger) == 0 < _size(Path(f"{ledger}-wal")):
        left = f"{ledger}-wal is there, a part of it"
    else:
        return
    raise OstrakonError(
        f"{ledger} holds no run, but {left}: the ledger was deleted or emptied. Put it back from a backup, with the "
        "files beside it; for a new run give another directory, or move what is in this one away"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
