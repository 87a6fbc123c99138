"""Command line: `python -m ostrakon.common.aggregation` prints all rules, with what they guarantee for n and f."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ostrakon.common.aggregation import table
from ostrakon.common.command import begin
from ostrakon.common.errors import OstrakonError


def main(
    n: Annotated[int, typer.Option("--n", help="workers")] = 35,
    f: Annotated[int, typer.Option("--f", help="how many of them may lie, below n/2")] = 14,
    update: Annotated[
        Path | None, typer.Option("--update", help="renew the table on this page", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Every aggregation rule and pre-aggregation: what it computes, what is proved of it, what it costs.

    λ bounds how far the result is from the mean of any n-f of the rows, as a multiple of their diameter; κ bounds its
    square, as a multiple of their variance. `-`: nothing is proved for every input; `n/a`: the rule cannot be used with
    this n and f, as is said below the table. What stands before a rule, or takes two, is written as in NNM+CWTM,
    Bucketing(2)+Krum, TwoPhase(Mean1P, Avg). More in docs/rules.md.
    """
    try:
        if update is not None:
            table.update(update, n, f)
        else:
            console = Console() if sys.stdout.isatty() else Console(width=160)
            console.print(table.terminal(n, f, console.width))
    except OstrakonError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    begin()
    typer.run(main)
