"""Pictures of what a round costs: ours, Flower's, and the least that moving the bytes costs; and of many workers."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ostrakon.bench.network.report import FLOORS, FLOWER, Row
from ostrakon.common.pictures import COLOURS, GRID, QUIET, TEXT, as_png
from ostrakon.server.process import FILES

_OURS, _FLOWER = COLOURS[:2]
_FLOOR = "#bbbbbb"
_IDLE = 250e6  # bytes that a server takes before it has rows: docs/safety.md, I8


def draw_network(path: Path, rows: Sequence[Row]) -> None:
    """Draw the server's CPU time a round, a panel for each n and d, with the rounds a second beside each bar."""
    places = list(dict.fromkeys((row.n, row.d) for row in rows))
    across = 2 if len(places) > 1 else 1
    down = -(-len(places) // across)
    figure = Figure(figsize=(6.2 * across, 2.4 * down + 0.4), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for panel, (n, d) in zip(panels, places, strict=False):
        _bars(panel, [row for row in rows if (row.n, row.d) == (n, d)])
        panel.set_title(f"n = {n}, d = {d:,}", loc="left", fontsize=10, color=TEXT)
    for panel in panels[len(places) :]:
        panel.set_visible(False)
    figure.supxlabel("milliseconds of the server's CPU a round", fontsize=9, color=QUIET)
    figure.set_dpi(110)
    path.write_bytes(as_png(figure))


def draw_crowd(path: Path, rows: Sequence[Row]) -> None:
    """Draw the server's CPU time a round and its memory over n, for the first rule and the first d among the rows."""
    first = next(row for row in rows if row.phases)
    ours = [row for row in rows if (row.what, row.d) == (first.what, first.d)]
    floor = [row for row in rows if (row.what, row.d) == (f"{FLOORS[0]}, as {first.what}", first.d)]
    figure = Figure(figsize=(11, 4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    computing = [row.threads.get(FILES, 0.0) for row in ours]
    talking = [row.server_cpu - computed for row, computed in zip(ours, computing, strict=True)]
    n = [row.n for row in ours]
    _line(time, n, computing, f"{first.what}, hashes and files", COLOURS[1])
    _line(time, n, talking, "all else: the calls", COLOURS[0])
    _line(time, n, [talking[0] / n[0] * each for each in n], f"as much for each worker as with {n[0]}", COLOURS[0], ":")
    _line(time, n, [row.server_cpu for row in floor], "a bare gRPC stream of the same bytes", QUIET, "--")
    _line(memory, n, [(row.promised_bytes + _IDLE) / 1e6 for row in ours], "promised", QUIET, "--")
    _line(memory, n, [row.peak_bytes / 1e6 for row in ours], "peak", COLOURS[0])
    for panel, title in ((time, "milliseconds of the server's CPU a round"), (memory, "the server's memory, MB")):
        panel.set(xscale="log", yscale="log", xlabel=f"workers, n (d = {first.d:,})")
        panel.set_title(title, loc="left", fontsize=10, color=TEXT)
        panel.set_xticks(n, [str(each) for each in n])
        panel.minorticks_off()
        panel.grid(visible=True, color=GRID)
        panel.tick_params(colors=QUIET)
        panel.legend(fontsize=8, frameon=False)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    memory.set_yticks([300, 1000, 3000], ["300", "1000", "3000"])
    figure.set_dpi(110)
    path.write_bytes(as_png(figure))


def _line(panel: Axes, n: Sequence[int], values: Sequence[float], label: str, colour: str, style: str = "-") -> None:
    marker = "o" if style == "-" else ""
    panel.plot(n, values, marker=marker, markersize=4, linestyle=style, color=colour, label=label)


def _bars(panel: Axes, rows: Sequence[Row]) -> None:
    costs = [row.server_cpu for row in rows]
    panel.barh([row.what for row in rows], costs, color=[_colour(row) for row in rows], height=0.7)
    for place, row in enumerate(rows):
        label = f" {row.server_cpu:.0f} ms, {row.rounds_per_second:.1f} rounds/s"
        panel.text(row.server_cpu, place, label, va="center", fontsize=8, color=TEXT)
    panel.set_xlim(0, 1.45 * max(costs))
    panel.invert_yaxis()
    panel.tick_params(colors=QUIET, labelsize=8)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _colour(row: Row) -> str:
    if row.what.startswith(FLOORS):
        return _FLOOR
    return _FLOWER if row.what == FLOWER else _OURS
