"""The picture of the rules' times over d and over n."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.aggregation import Row


def draw(path: Path, over_d: Sequence[Row], over_n: Sequence[Row]) -> None:
    """Draw both sweeps beside each other; the floor of Mean2P is dashed."""
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for panel, (rows, x, label) in zip(
        axes, ((over_d, "d", "numbers in a row, d"), (over_n, "n", "rows, n")), strict=True
    ):
        for name in dict.fromkeys(row.rule for row in rows):
            mine = [row for row in rows if row.rule == name]
            at = [getattr(row, x) for row in mine]
            panel.plot(at, [row.milliseconds for row in mine], marker="o", markersize=3, label=name)
            if name == "Mean2P":
                color = panel.lines[-1].get_color()
                floors = [row.floor_milliseconds for row in mine]
                panel.plot(at, floors, linestyle="--", color=color, label="floor of Mean2P")
        panel.set(xscale="log", yscale="log", xlabel=label, ylabel="milliseconds")
        panel.grid(visible=True, alpha=0.3)
    first, second = over_d[0], over_n[0]
    axes[0].set_title(f"n = {first.n}, f = {first.f}, {first.threads} thread(s), {first.device}", fontsize=10)
    axes[1].set_title(f"d = {second.d:,}, f = 2n/5", fontsize=10)
    axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
