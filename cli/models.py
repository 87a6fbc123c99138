"""`ostrakon init`, `branch` and `audit`: what a run begins from, and whether it is whole."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    config: Annotated[
        Path,
        typer.Option(metavar="FILE", help="TOML file with a worker's settings; task, data, options and seed are read."),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="File to write, as in initial.safetensors.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Start from these weights: a state dict of the task's model, as safetensors."
        ),
    ] = None,
) -> None:
    """Write theta_0, from which a server starts a run.

    It is the model of a task with the weights that follow from a seed, or with those of a file. Needs the settings of
    any worker of the run (`ostrakon worker --help` lists them).

    \b
    Examples:
      ostrakon init --config worker.toml --output initial.safetensors
      ostrakon init --config worker.toml --from pretrained.safetensors --output initial.safetensors
    """
    from ostrakon.common.settings import read
    from ostrakon.worker.initial import write_initial
    from ostrakon.worker.testbed.settings import WorkerFile

    write_initial(read(WorkerFile, config), output, source)


def branch(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The old run's folder; it is audited, and left as it is.")
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Model file to write: `initial` of the new run.")],
) -> None:
    """Begin a new run from an old one's last committed model.

    Writes that model as the initial model of the new run. Needs the old run's folder, or a copy of it, which nobody
    serves. The new run's ledger will name the old run as its parent.

    \b
    Example:
      ostrakon branch runs/old --output anew.safetensors
    """
    from ostrakon.server.storage.parentage import branch as write

    parent = write(directory, output)
    print(f"{output} holds the model of round {parent.round} of run {parent.run}, entry {parent.hash}")


def audit(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The run's folder, as in runs/NAME.")],
) -> None:
    """Check a run's chain of entries and its model files.

    Names the first broken entry. Needs the run's folder, or a copy of it; it is left as it is.

    \b
    Example:
      ostrakon audit runs/default
    """
    from ostrakon.server.storage.audit import audit as check

    print(check(directory))
