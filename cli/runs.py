"""`ostrakon up`, `status`, `down` and `report`: whole runs on this machine, in the folder runs/ of where one is."""

from pathlib import Path
from typing import Annotated

import typer

OneRun = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="RUN=NAME, or the settings that were given to up."),
]


def up(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, as listed below.")
    ] = None,
) -> None:
    """Start a run on this machine, or go on with one.

    Needs nothing but a folder to write to: runs/RUN in it keeps everything of the run. Ctrl-C, or `ostrakon down`, ends
    it; the same command goes on with it.

    \b
    Examples:
      ostrakon up
      ostrakon up RULE=Mean1P ATTACK=SF ROUNDS=100
      ostrakon up TASK=mytask:MyTask WORKERS=3 BYZANTINE=0 F=1
    """
    from ostrakon.deploy import launcher

    raise typer.Exit(launcher.up(settings or []))


def status(run: OneRun = None) -> None:
    """Print where a run stands.

    Needs the folder in which `ostrakon up` was given. A run that has ended is shown with its summary.

    \b
    Examples:
      ostrakon status
      ostrakon status RUN=mine
      ostrakon status RULE=Mean1P
    """
    from ostrakon.deploy import launcher

    raise typer.Exit(launcher.status(_name(run)))


def down(run: OneRun = None) -> None:
    """End a run in good order.

    Needs the folder in which `ostrakon up` was given; the same `ostrakon up` goes on with the run.

    \b
    Example:
      ostrakon down RUN=mine
    """
    from ostrakon.deploy import launcher

    raise typer.Exit(launcher.down(_name(run)))


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs, as in runs/default.")],
    compare: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw what all RUNs are measured by into this file, and nothing else."),
    ] = None,
) -> None:
    """Print the summary of runs, and draw their curves.

    summary.json and curves.png go into the folder of each RUN. Needs only what a run's folder keeps, however the run
    ended. `ostrakon up` does this at its end.

    \b
    Examples:
      ostrakon report runs/default
      ostrakon report --compare rules.png runs/rule-Mean1P runs/rule-Avg
    """
    from rich.console import Console

    from ostrakon.common.files import write_atomically
    from ostrakon.deploy import plots
    from ostrakon.deploy import report as summary  # matplotlib comes with both
    from ostrakon.deploy.record import read_record

    if compare is not None:
        write_atomically(compare, plots.compare([read_record(folder) for folder in folders]))
        typer.echo(str(compare))
        return
    for folder in folders:
        Console().print(summary.table(folder.name, summary.write(folder)))


def _name(words: list[str] | None) -> str:
    from ostrakon.deploy.launch_settings import parse, run_name

    return run_name(parse(words or []))
