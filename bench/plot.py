"""The picture of the rules' times over d and over n."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ostrakon.bench.aggregation import SORT, Report
from ostrakon.common.pictures import COLOURS, GRID, QUIET, TEXT

_FLOOR_OF = "Mean2P"


def draw(path: Path, over_d: Sequence[Report], over_n: Sequence[Report]) -> None:
    """Draw the same rules over d and over n, with torch.sort and the floor of Mean2P."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    first, other = over_d[0].rows[0], over_n[0].rows[0]
    names = [row.rule for row in over_d[0].rows]
    _lines(left, over_d, "d", names)
    _lines(right, over_n, "n", names)
    left.set_title(f"n = {first.n}, f = {first.f}", loc="left", fontsize=10, color=TEXT)
    right.set_title(f"d = {other.d:,}, f = 2n/5", loc="left", fontsize=10, color=TEXT)
    left.set_xlabel("numbers in a row, d", color=TEXT)
    right.set_xlabel("rows, n", color=TEXT)
    left.set_ylabel(f"milliseconds ({first.device}, threads: {first.threads})", color=TEXT)
    right.set_xticks([report.rows[0].n for report in over_n], [str(report.rows[0].n) for report in over_n], minor=False)
    right.minorticks_off()
    handles, labels = left.get_legend_handles_labels()
    right.legend(handles, labels, fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def _lines(panel: Axes, reports: Sequence[Report], over: Literal["d", "n"], names: Sequence[str]) -> None:
    everywhere = [getattr(report.rows[0], over) for report in reports]
    panel.plot(everywhere, [report.sort.milliseconds for report in reports], color=QUIET, linestyle=":", label=SORT)
    for index, name in enumerate(names):
        mine = [row for report in reports for row in report.rows if row.rule == name]
        at = [getattr(row, over) for row in mine]
        colour = COLOURS[index % len(COLOURS)]
        panel.plot(at, [row.milliseconds for row in mine], marker="o", markersize=4, color=colour, label=name)
        if name == _FLOOR_OF:
            floors = [row.floor_milliseconds for row in mine]
            panel.plot(at, floors, linestyle="--", linewidth=1, color=colour, label=f"floor of {name}")
    panel.set(xscale="log", yscale="log")
    panel.grid(visible=True, color=GRID)
    panel.tick_params(colors=QUIET)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
