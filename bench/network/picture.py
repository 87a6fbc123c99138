"""The picture of what a round costs: ours, Flower's, and the least that moving the bytes costs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ostrakon.bench.network.report import FLOORS, FLOWER, Row
from ostrakon.common.pictures import COLOURS, QUIET, TEXT, as_png

_OURS, _FLOWER = COLOURS[:2]
_FLOOR = "#bbbbbb"


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
