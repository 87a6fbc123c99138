"""`ostrakon partition`: who holds what of a task's data."""

from pathlib import Path
from typing import Annotated

import typer


def partition(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="TASK, DATA, OPTIONS, WORKERS and SEED, as given to up."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="PNG", help="File to draw the picture into.")] = Path("partition.png"),
) -> None:
    """Print, and draw, which worker holds how much of which class.

    Needs a task of classes, the built-in ones or your own, and its data. No run is started.

    \b
    Examples:
      ostrakon partition TASK=femnist DATA=femnist.npz WORKERS=35 "OPTIONS=partition=dirichlet(alpha=0.1)"
      ostrakon partition TASK=mytask:MyTask WORKERS=3 --output mine.png
    """
    from rich.console import Console

    from ostrakon.common.files import write_atomically
    from ostrakon.deploy import holdings
    from ostrakon.deploy.launch_settings import parse

    held = holdings.holdings(parse(settings or []).over({"byzantine": 0, "f": 0}))
    write_atomically(output, holdings.picture(held))
    typer.echo(held.heading)
    Console().print(holdings.table(held))
    typer.echo(f"picture: {output}")
