"""A whole run on this machine: `python -m ostrakon.deploy.local up KEY=VALUE...`, then status and down.

Every process of a run imports this module again, so that it stays light: the rest is imported where it is used.
"""

from typing import Annotated

import typer

from ostrakon.common.command import begin
from ostrakon.common.runtime import run_to_exit
from ostrakon.deploy.launch_settings import described, parse, run_name

_SETTINGS = f"""\b
Settings, in any letter case, with their defaults:
{described()}"""

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=_SETTINGS
)
OneRun = Annotated[list[str] | None, typer.Argument(metavar="[RUN=NAME | the settings given to up]")]


@app.callback()
def local() -> None:
    """A server, an evaluator and N workers on this machine."""


@app.command("up", epilog=_SETTINGS)
def up_command(settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None) -> None:
    """Start a run, or go on with one: runs/RUN keeps everything of it."""
    from ostrakon.deploy import launcher

    raise typer.Exit(launcher.up(settings or []))


@app.command("status")
def status_command(run: OneRun = None) -> None:
    """Print where a run stands."""
    from ostrakon.deploy import launcher

    raise typer.Exit(launcher.status(_name(run)))


@app.command("down")
def down_command(run: OneRun = None) -> None:
    """End a run in good order; `up` goes on with it."""
    from ostrakon.deploy import launcher

    raise typer.Exit(launcher.down(_name(run)))


def _name(words: list[str] | None) -> str:
    return run_name(parse(words or []))


if __name__ == "__main__":
    begin()
    run_to_exit(app, None)
