"""`ostrakon experiments`: the paper's tables and figures, and others of the same kind."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ostrakon.experiments.tables.output import Output
    from ostrakon.experiments.tables.plan import Plan
    from ostrakon.experiments.tables.settings import TableSettings
    from ostrakon.experiments.tables.store import Store

_INTERRUPTED = 130  # the status of what Ctrl-C ended


def experiments(
    plan: Annotated[
        str, typer.Argument(metavar="PLAN", help="table1 to table5, figure1 to figure4, votes or departures.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, as listed below.")
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option("--update", metavar="FILE", help="Renew its part of this page.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Compute a table or a figure of the paper.

    No server is started: all workers of a run are computed in one process, and several runs at a time. CSV, Markdown
    and a picture go into the folder of results, every cell beside what the paper measured there. Each run is kept as
    soon as it is over: after Ctrl-C the same command goes on, and what failed is tried again.

    \b
    Examples:
      ostrakon experiments table1 DATA=femnist.npz DEVICE=cuda
      ostrakon experiments table1 DATA=femnist.npz SEEDS=1 ROUNDS=300 "RULES=Avg;Krum;Mean2P" "ATTACKS=SF;Omn"
      ostrakon experiments table2 TASK=linear WORKERS=15 ROUNDS=20 SEEDS=2
      ostrakon experiments figure1
    """
    from ostrakon.experiments.tables import output, plans
    from ostrakon.experiments.tables.settings import table_settings
    from ostrakon.experiments.tables.store import Store
    from ostrakon.experiments.tables.summary import fill

    chosen = table_settings(settings or [])
    if plan == plans.FIGURE1:
        _show(output.output_of_figure1(), chosen.results, update)
        return
    made, store = plans.plan(plan, chosen), Store(chosen.results / "runs")
    interrupted = False
    try:
        _compute(made, chosen, store)
    except KeyboardInterrupt:
        interrupted = True
        typer.echo("interrupted: the same command goes on", err=True)
    filled = fill(made, chosen.seeds, store)
    _show(output.output(made, filled, chosen.seeds), chosen.results, update)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)
    _check_all_computed([error for one in filled for error in one.errors])


def _compute(plan: "Plan", settings: "TableSettings", store: "Store") -> None:
    """Compute what is not known yet, and say how far it is."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from ostrakon.experiments.tables import logs, runner
    from ostrakon.experiments.tables.store import Record

    runs = runner.wanted(plan, settings.seeds, store)
    if not runs:
        return
    log = None if settings.log is None else logs.log(settings.log, settings.results / settings.log)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rounds"))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False))
    with Progress(*columns, *times, console=Console(stderr=True)) as progress:
        total = sum(one.experiment.rounds for one in runs)
        bar = progress.add_task(f"{plan.name}, {len(runs)} runs", total=total)

        def finished(one: runner.Wanted, record: Record) -> None:
            accuracy = f"{record.last(one.experiment.rounds).accuracy:.3f}"
            said = f"failed: {record.error}" if record.error is not None else f"{accuracy} ({record.seconds:.0f} s)"
            progress.console.print(f"{one}: {said}", markup=False, highlight=False, soft_wrap=True)

        runner.run(runs, settings, store, tell=lambda n: progress.advance(bar, n), finished=finished, log=log)


def _show(shown: "Output", folder: Path, update: Path | None) -> None:
    typer.echo(shown.markdown)
    typer.echo(f"\nwritten: {', '.join(map(str, shown.write(folder)))}")
    if update is not None:
        shown.renew(update)


def _check_all_computed(errors: list[str]) -> None:
    from ostrakon.common.errors import OstrakonError

    if errors:
        raise OstrakonError(
            f"{len(errors)} runs failed and are tried again by the same command; the first: {errors[0]}"
        )
