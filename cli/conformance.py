"""`ostrakon conformance`: a trial of a worker in whatever language."""

from pathlib import Path
from typing import Annotated

import typer


def conformance(
    initial: Annotated[
        Path, typer.Option(metavar="FILE", help="Initial model of the task that the worker was built for.")
    ],
    run: Annotated[
        str | None, typer.Option("--run", metavar="COMMAND", help="Starts the worker; without it you are asked to.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="For the worker's certificate, and what it and the server say.")
    ] = Path("conformance"),
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to serve on, HOST:PORT.")] = "127.0.0.1:7433",
    patience: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="How long a call may take to come.")] = 30,
) -> None:
    """Try a worker in every difficult moment of a run.

    Serves a run with four other members to one worker, named foreign, in whatever language: it is late, refused,
    overtaken, restarted, asked for the model, shut out. Says what it did right and what wrong; exit status 0 means that
    all was right. Needs an initial model (`ostrakon init`).

    \b
    Example:
      ostrakon conformance --initial initial.safetensors --run "node worker.js --server 127.0.0.1:7433"
    """
    from ostrakon.deploy.conformance.report import report

    raise typer.Exit(report(initial, run, folder, listen, patience))
