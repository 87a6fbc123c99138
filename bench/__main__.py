"""Command line: `python -m ostrakon.bench aggregation`, `... attacks`, `... distance`, `... engine`, `... network`."""

import json
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ostrakon.bench.aggregation import DEFAULT, Report, measure, slowdowns
from ostrakon.bench.attacks import PLACE, ROWS, RULES, Setting, accuracy, markdown
from ostrakon.bench.engine import EngineReport, measure_engine
from ostrakon.bench.network.distance import Distance
from ostrakon.bench.network.far import distance_table, measure_distance
from ostrakon.bench.network.picture import draw_crowd, draw_network
from ostrakon.bench.network.report import measure_network
from ostrakon.bench.network.show import network_tables
from ostrakon.bench.plot import draw
from ostrakon.bench.rows import HOSTILE
from ostrakon.common.aggregation import rule
from ostrakon.common.command import begin
from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.markdown import renew
from ostrakon.common.runtime import prepare
from ostrakon.deploy.processes import start_fork_server
from ostrakon.experiments.experiment import experiment

app = typer.Typer(help="Measurements, with their limits beside them.", no_args_is_help=True, add_completion=False)


@app.callback()
def commands() -> None:
    """Measurements, with their limits beside them."""


@app.command()
def aggregation(
    n: Annotated[int, typer.Option("--n", min=1, help="rows")] = 35,
    f: Annotated[int, typer.Option("--f", min=0, help="liars among them, below n/2")] = 14,
    d: Annotated[int, typer.Option("--d", min=1, help="numbers in a row")] = 1_000_000,
    threads: Annotated[int, typer.Option("--threads", min=1, help="threads of the CPU")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1")] = "cpu",
    rules: Annotated[str, typer.Option("--rules", help="which, with ; between them; all of them if not given")] = "",
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="how often each is timed")] = 5,
    write: Annotated[Path | None, typer.Option("--json", help="write the rows to this file")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="time some rules over d and over n too, and draw it here")
    ] = None,
    hostile: Annotated[bool, typer.Option("--hostile", help="time them on what liars could send, too")] = False,
) -> None:
    """Every rule on the same rows, beside the floor of what it cannot do without.

    Times are medians; every ratio is of times taken in turn in the same run. `peak` is memory beyond rows and results.
    `bandwidth` is the share of the speed of reading memory at which the rows pass, as if a rule read them once.
    """
    console = Console() if sys.stdout.isatty() else Console(width=120)
    prepare(threads)
    names = tuple(name.strip() for name in rules.split(";")) if rules else DEFAULT
    try:
        where = resolve_device(device)
        report = measure(names, n, f, d, where, threads, repeat)
        console.print(_table(report, n * d * 4))
        for reason in report.skipped:
            console.print(reason, style="dim", highlight=False)
        if hostile:
            console.print(_hostile_table(slowdowns(names, n, f, d, where, repeat)))
        reports = [report]
        if plot is not None:
            over_d, over_n = _sweeps(where, threads, repeat)
            draw(plot, over_d, over_n)
            reports += [*over_d, *over_n]
        if write is not None:
            rows = [asdict(row) for one in reports for row in one.rows]
            write.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except OstrakonError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def attacks(
    task: Annotated[str, typer.Option("--task", help="what is learned")] = "glyphs",
    workers: Annotated[int, typer.Option("--workers", min=1, help="n")] = 15,
    byzantine: Annotated[int, typer.Option("--byzantine", min=0, help="liars among them, and f")] = 6,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="rounds of each run")] = 150,
    seed: Annotated[int, typer.Option("--seed", min=0, help="seed of all runs")] = 1,
    rules: Annotated[str, typer.Option("--rules", help="which, with ; between them")] = ";".join(RULES),
    update: Annotated[
        Path | None, typer.Option("--update", help="renew the table on this page", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Every attack against some rules: the accuracy that short runs of `ostrakon up` end with, in runs/attacks-*.

    About an hour on two cores as it stands. Runs that are over are not repeated: it goes on where it was interrupted.
    """
    setting = Setting(task, workers, byzantine, rounds, seed)
    names = tuple(name.strip() for name in rules.split(";"))
    found: dict[tuple[str, str], float] = {}
    try:
        for name in names:
            rule(name).check_run(workers, byzantine, asynchronous=False)
        for attack in ROWS:
            for name in names:
                found[attack, name] = accuracy(setting, attack, name)
                print(f"{name} against {attack}: {found[attack, name]:.3f}", flush=True)
        page = markdown(setting, found, names)
        if update is None:
            print(f"\n{page}")
        else:
            renew(update, PLACE, page)
    except OstrakonError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def engine(
    task: Annotated[str, typer.Option("--task", help="what is learned")] = "glyphs",
    data: Annotated[Path | None, typer.Option("--data", help="for tasks that read one")] = None,
    rule: Annotated[str, typer.Option("--rule", help="rule of the server")] = "Mean2P",
    attack: Annotated[str, typer.Option("--attack", help="what the corrupted send")] = "SF",
    workers: Annotated[int, typer.Option("--workers", min=1, help="n")] = 35,
    byzantine: Annotated[int, typer.Option("--byzantine", min=0, help="liars among them, and f")] = 14,
    batch: Annotated[int, typer.Option("--batch", min=1, help="examples in a mini-batch")] = 3,
    vote_batch: Annotated[int, typer.Option("--vote-batch", min=1, help="examples in a vote's mini-batch")] = 3,
    runs: Annotated[int, typer.Option("--runs", min=1, help="runs side by side, of five seeds")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=0, help="threads of the CPU; 0 is one per core")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1")] = "cpu",
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="rounds that are timed")] = 30,
) -> None:
    """Rounds a second of the experiments' engine, phase by phase, beside the speed of a plain matrix product."""
    prepare(threads)
    try:
        setting = {"task": task, "data": data, "rule": rule, "attack": attack, "workers": workers, "device": device}
        sizes = {"byzantine": byzantine, "batch": batch, "vote_batch": vote_batch}
        several = [experiment(**setting, **sizes, seed=1 + run % 5) for run in range(runs)]
        console = Console() if sys.stdout.isatty() else Console(width=120)
        console.print(_engine_table(measure_engine(several, repeat)))
    except OstrakonError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def network(
    n: Annotated[str, typer.Option("--n", help="workers, several with ; between them")] = "10",
    d: Annotated[str, typer.Option("--d", help="parameters, several with ; between them")] = "100000;1000000",
    rules: Annotated[str, typer.Option("--rules", help="which, with ; between them")] = "Avg;Mean2P",
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="how long each is measured")] = 6,
    flower: Annotated[
        str | None, typer.Option("--flower", help="an interpreter that has flwr, to measure beside ours")
    ] = None,
    crowd: Annotated[bool, typer.Option("--crowd", help="workers are sessions of one process, to have many")] = False,
    write: Annotated[Path | None, typer.Option("--json", help="write the rows to this file")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="draw the server's costs here; of a crowd, over n")
    ] = None,
) -> None:
    """Rounds of a real server and workers on this machine, beside the least that moving their bytes costs.

    All figures are of one round. The floors move the same bytes through a bare gRPC stream, and through TLS on bare
    sockets, in the same run.
    """
    console = Console() if sys.stdout.isatty() else Console(width=120)
    start_fork_server()
    rows = []
    try:
        for workers, size in product(_numbers("--n", n), _numbers("--d", d)):
            names = [name.strip() for name in rules.split(";")]
            several = measure_network(names, workers, size, seconds, flower, crowd=crowd)
            for table in network_tables(several):
                console.print(table)
            rows += several
        if write is not None:
            write.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
        if plot is not None:
            (draw_crowd if crowd else draw_network)(plot, rows)
    except OstrakonError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def distance(
    d: Annotated[int, typer.Option("--d", min=1, help="parameters")] = 10_000_000,
    delay: Annotated[float, typer.Option("--delay", min=0, help="milliseconds, there and back")] = 100,
    rate: Annotated[float, typer.Option("--rate", min=0.001, help="Mbit/s, each way")] = 1000,
) -> None:
    """How long a vector takes over a long line, up to a real server and down from it, beside bare TLS over it.

    The line is a proxy on this machine. Uploads begin over one connection; the later ones go over several, where that
    was found to be faster.
    """
    console = Console() if sys.stdout.isatty() else Console(width=120)
    start_fork_server()
    line = Distance(delay / 2e3, 1e6 * rate / 8)
    try:
        console.print(distance_table(d, line, measure_distance(d, line)))
    except OstrakonError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _numbers(option: str, words: str) -> list[int]:
    try:
        found = [int(word) for word in words.split(";")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise OstrakonError(f"{option} {words!r} cannot be used: give numbers from 1 on, as in 10;35")
    return found


def _sweeps(device: torch.device, threads: int, repeat: int) -> tuple[list[Report], list[Report]]:
    names = ("Mean2P", "NNM+Avg", "Multi-Krum", "GM", "CWTM", "Avg")
    over_d = [measure(names, 35, 14, d, device, threads, repeat) for d in (10_000, 30_000, 100_000, 300_000, 1_000_000)]
    over_n = [measure(names, n, 2 * n // 5, 200_000, device, threads, repeat) for n in (10, 20, 35, 60, 100)]
    return over_d, over_n


def _table(report: Report, input_bytes: int) -> Table:
    first = report.rows[0]
    table = Table(
        box=SIMPLE_HEAD,
        title=f"n = {first.n}, f = {first.f}, d = {first.d}, {first.threads} threads, {first.device}: "
        f"rows are read at {report.bytes_per_second / 1e9:.1f} GB/s, "
        f"torch.sort over them takes {report.sort.milliseconds:.0f} ms",
    )
    for heading in ("rule", "ms", "CPU ms", "floor ms", "of floor", "sort takes", "bandwidth", "peak MiB"):
        table.add_column(heading, justify="left" if heading == "rule" else "right", no_wrap=True)
    for row in report.rows:
        table.add_row(
            row.rule,
            f"{row.milliseconds:.1f}",
            f"{row.cpu_milliseconds:.1f}",
            f"{row.floor_milliseconds:.1f}",
            f"{row.milliseconds / row.floor_milliseconds:.2f}",
            f"{report.sort.milliseconds / row.milliseconds:.1f} times",
            f"{input_bytes / (row.milliseconds / 1e3) / report.bytes_per_second:.0%}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.1f}",
        )
    return table


def _engine_table(report: EngineReport) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{report.rounds_per_second:.1f} rounds a second, runs side by side: {report.runs}; "
        f"a plain product runs at {report.product / 1e9:.0f} GFLOP/s",
    )
    for heading in ("phase", "ms", "CPU ms", "share", "calls", "GFLOP", "GFLOP/s", "of a product"):
        table.add_column(heading, justify="left" if heading == "phase" else "right", no_wrap=True)
    total = sum(phase.milliseconds for phase in report.phases)
    for phase in report.phases:
        speed = phase.operations_per_second
        passes = (f"{phase.operations / 1e9:.2f}", f"{speed / 1e9:.0f}", f"{speed / report.product:.0%}")
        table.add_row(
            phase.name,
            f"{phase.milliseconds:.1f}",
            f"{phase.cpu_milliseconds:.1f}",
            f"{phase.milliseconds / total:.0%}",
            f"{phase.calls}",
            *(passes if phase.operations else ()),
        )
    return table


def _hostile_table(found: dict[str, dict[str, float]]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Time with what f liars could send, as a multiple of that of ordinary rows")
    for heading in ("rule", *HOSTILE):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for name, ratios in found.items():
        table.add_row(name, *(f"{ratios[kind]:.2f}" for kind in HOSTILE))
    return table


if __name__ == "__main__":
    begin()
    app()
