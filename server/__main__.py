"""`python -m ostrakon.server --config FILE` serves a run, `audit` checks one, `restore` begins anew from its model."""

from pathlib import Path
from typing import Annotated

import typer

from ostrakon.common.command import begin
from ostrakon.common.runtime import run_to_exit

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="TOML file with the server's settings.")] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Start although another server holds the run; it is fenced off.")
    ] = False,
) -> None:
    """Serve a run: collect momenta, propose two candidates, count the votes, commit one model a round."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise typer.BadParameter("give the server's settings: python -m ostrakon.server --config FILE")
    from ostrakon.server.process import main

    main(config, None, take_over=take_over)


@app.command()
def audit(directory: Annotated[Path, typer.Argument(help="The run's folder, as in runs/NAME.")]) -> None:
    """Check a run's chain of entries and its model files; names the first broken entry."""
    from ostrakon.server.storage.audit import audit as check

    run_to_exit(lambda: print(check(directory)), None)


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(help="The old run's folder; it is audited, and left as it is.")],
    output: Annotated[Path, typer.Option(help="Model file to write: `initial` of the new run.")],
) -> None:
    """Begin anew from a run's last committed model: writes it for a new run, whose ledger will name this one."""
    from ostrakon.server.storage.parentage import restore as write

    def work() -> None:
        parent = write(directory, output)
        print(f"{output} holds the model of round {parent.round} of run {parent.run}, entry {parent.hash}")

    run_to_exit(work, None)


if __name__ == "__main__":
    begin()
    app()
