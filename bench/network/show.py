"""The tables of a network benchmark."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ostrakon.bench.network.report import FLOORS, Row


def network_tables(rows: Sequence[Row]) -> list[Table]:
    """All rows of one n and d; and where a round of each rule goes, by phase and by thread of the server."""
    tables = [_costs(rows)]
    rules = [row for row in rows if row.phases]
    for title, of in (("phase", _phases), ("thread", _threads)):
        names = list(dict.fromkeys(name for row in rules for name in of(row)))
        table = Table(box=SIMPLE_HEAD, title=f"Where a round goes, by {title} of the server")
        for heading in ("rule", *names):
            table.add_column(heading, justify="left" if heading == "rule" else "right")
        for row in rules:
            table.add_row(row.what, *(of(row).get(name, "") for name in names))
        tables.append(table)
    return tables


def _costs(rows: Sequence[Row]) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        title=f"n = {rows[0].n}, d = {rows[0].d:,}: milliseconds of CPU a round, and their ratio to the gRPC stream",
    )
    for heading in ("", "rounds/s", "server", "ratio", "worker", "ratio", "peak MB", "MB moved"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    floors = {row.what: row for row in rows if row.what.startswith(FLOORS[0])}
    for row in rows:
        floor = next((one for what, one in floors.items() if what.endswith(f" {row.what}")), None)
        ratios = (
            ["", ""]
            if floor is None
            else [f"{row.server_cpu / floor.server_cpu:.2f}", f"{row.worker_cpu / floor.worker_cpu:.2f}"]
        )
        table.add_row(
            row.what,
            f"{row.rounds_per_second:.2f}",
            f"{row.server_cpu:.0f}",
            ratios[0],
            f"{row.worker_cpu:.1f}",
            ratios[1],
            f"{row.peak_bytes / 1e6:.0f}",
            f"{(row.received + row.sent) / 1e6:.1f}" if row.received else "",
        )
    return table


def _phases(row: Row) -> dict[str, str]:
    return {name: f"{wall:.0f} ms, CPU {cpu:.0f}" for name, (wall, cpu) in row.phases.items()}


def _threads(row: Row) -> dict[str, str]:
    return {name: f"{cpu:.1f}" for name, cpu in row.threads.items() if cpu >= 0.1}
