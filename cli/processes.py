"""`ostrakon server`, `worker`, `evaluate` and `adversary`: the processes of a run, each on a host of its own."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option(metavar="FILE", help="TOML file with this process's settings, as listed below.")]


def server(
    config: Config,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Start although another server holds the run; it is fenced off.")
    ] = False,
) -> None:
    """Serve a run to its workers.

    Collects momenta, proposes two candidates, counts the votes and commits one model a round. Needs an initial model
    (`ostrakon init`) and, beyond this machine, a certificate (`ostrakon certificates`). Started again with the same
    file, it goes on with its run.

    \b
    Example:
      ostrakon server --config server.toml
    """
    from ostrakon.server.process import main

    main(config, None, take_over=take_over)


def worker(
    config: Config,
    tap: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Test beds: send copies to the adversary there, HOST:PORT.")
    ] = None,
) -> None:
    """Take part in a run: train on local data, send momenta, vote.

    Needs a server to call and, beyond this machine, a certificate of a worker on the server's roster.

    \b
    Example:
      ostrakon worker --config worker.toml
    """
    from ostrakon.worker.process import main

    main(config, None, tap)


def evaluate(config: Config) -> None:
    """Follow a run, and measure its models on test data.

    Needs a server to call and, beyond this machine, an observer's certificate; writes evaluations.jsonl into `output`.

    \b
    Example:
      ostrakon evaluate --config evaluator.toml
    """
    from ostrakon.worker.evaluator.process import main

    main(config, None)


def adversary(config: Config) -> None:
    """Test beds only: be the meeting place of colluders.

    They learn here what the honest workers that are tapped send. Needs workers with `tap` and liars with `adversary`
    set to its address; `ostrakon up` starts one where an attack wants it.

    \b
    Example:
      ostrakon adversary --config adversary.toml
    """
    from ostrakon.worker.adversary import main

    main(config, None)
