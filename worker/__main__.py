"""`python -m ostrakon.worker --config FILE` takes part in a run; `init` writes theta_0; `evaluate` follows a run."""

from pathlib import Path
from typing import Annotated

import typer

from ostrakon.common.command import begin
from ostrakon.common.runtime import run_to_exit
from ostrakon.common.settings import read
from ostrakon.worker.testbed.settings import WorkerFile

app = typer.Typer(add_completion=False, no_args_is_help=True)
Config = Annotated[Path, typer.Option(help="TOML file with this process's settings.")]


@app.callback(invoke_without_command=True)
def work(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="TOML file with the worker's settings.")] = None,
    tap: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Test beds: send copies to the adversary there, HOST:PORT.")
    ] = None,
) -> None:
    """Take part in a run: train on local data, send momenta, vote."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise typer.BadParameter("give the worker's settings: python -m ostrakon.worker --config FILE")
    from ostrakon.worker.process import main

    main(config, None, tap)


@app.command()
def init(
    config: Config,
    output: Annotated[Path, typer.Option(help="File to write, as in initial.safetensors.")],
) -> None:
    """Write theta_0 of the settings' task and seed: the file that a server starts a run from."""
    from ostrakon.worker.initial import write_initial

    run_to_exit(lambda: write_initial(read(WorkerFile, config), output), None)


@app.command()
def evaluate(config: Config) -> None:
    """Follow a run with an observer's certificate and measure its models on the task's test data."""
    from ostrakon.worker.evaluator_process import main

    main(config, None)


if __name__ == "__main__":
    begin()
    app()
