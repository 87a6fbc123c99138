"""A run that begins from another one's model: what its model file says of that run, and the file itself."""

from collections.abc import Mapping
from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.common.model_file import ModelFile, write_model
from ostrakon.common.run_files import LEDGER, MODELS
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.ledger import Entry, Genesis, Parent
from ostrakon.server.storage.ledger.sqlite import opened_to_read
from ostrakon.server.storage.model_store import ModelKey, ModelStore, initial_key, stored_fixed_part


def metadata_of(genesis: Genesis, head: Entry | None) -> Mapping[str, str]:
    """What stands in the file of a run's last committed model."""
    round, hash = (0, genesis.hash) if head is None else (head.round, head.hash)
    return {"task": genesis.settings["task"], "run": genesis.run, "round": str(round), "head": hash}


def parent_of(initial: ModelFile) -> Parent | None:
    """The run whose last committed model this is, if the file says so.

    Raises:
        OstrakonError: what it says cannot be read.
    """
    run, round, hash = (initial.metadata.get(name) for name in ("run", "round", "head"))
    if run is None or round is None or hash is None:
        return None
    if not round.isdecimal():
        raise OstrakonError(f"the initial model names round {round!r} of run {run}, which is no number: make it anew")
    return Parent(run, int(round), hash)


def branch(directory: Path, output: Path) -> Parent:
    """Write the last committed model of a run as the initial model of a new one, which then names this one.

    Args:
        directory: the folder of the run, which nobody serves; it is audited first and left as it is.
        output: the model file to write.

    Raises:
        OstrakonError: the run is not intact, naming what is broken; `output` exists or cannot be written.
    """
    if output.exists():
        raise OstrakonError(f"{output} exists: give the name of a new file")
    audit(directory)
    with opened_to_read(directory / LEDGER) as ledger:
        genesis, head = ledger.genesis(), ledger.head()
    if genesis is None:
        raise OstrakonError(f"the ledger in {directory} is empty: no run has begun here")
    key = initial_key(genesis.theta_0, genesis.parameters) if head is None else ModelKey(head.winner, head.running_sum)
    metadata = metadata_of(genesis, head)
    theta = ModelStore(directory / MODELS).read(key).theta
    write_model(output, theta, genesis.layout, metadata, stored_fixed_part(directory, genesis.constants))
    return Parent(metadata["run"], int(metadata["round"]), metadata["head"])
