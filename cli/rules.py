"""`ostrakon rules`: the table of aggregation rules."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def rules(
    n: Annotated[int, typer.Option("--n", metavar="N", help="n, workers on the roster.")] = 35,
    f: Annotated[int, typer.Option("--f", metavar="F", help="How many of them may lie, below n/2.")] = 14,
    update: Annotated[
        Path | None,
        typer.Option("--update", metavar="FILE", help="Renew the table on this page.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Print the table of aggregation rules and pre-aggregations.

    It says what each computes, what is proved of it, and what it costs.

    λ bounds how far the result is from the mean of any n-f of the rows, as a multiple of their diameter; κ bounds its
    square, as a multiple of their variance. `-`: nothing is proved for every input; `n/a`: the rule cannot be used with
    this n and f, as is said below the table. What stands before a rule, or takes two, is written as in NNM+CWTM,
    Bucketing(2)+Krum, TwoPhase(Mean1P, Avg). More in docs/rules.md.

    \b
    Example:
      ostrakon rules --n 10 --f 4
    """
    from rich.console import Console

    from ostrakon.common.aggregation import table

    if update is not None:
        table.update(update, n, f)
        return
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table.terminal(n, f, console.width))
