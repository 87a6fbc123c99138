"""A plan that was run, as a picture."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ostrakon.common.pictures import COLOURS, GRID, QUIET, TEXT, as_png
from ostrakon.experiments.tables.pages import number, options_of
from ostrakon.experiments.tables.plan import Plan
from ostrakon.experiments.tables.summary import Filled

_ACROSS = 3  # panels of curves in a row
_LETTERS = 12  # of the title on an inch
_SHADES = LinearSegmentedColormap.from_list("accuracy", ["#F0A882", "#FFFFFF", "#8EC3E6"])  # dark text is read on all


def picture(plan: Plan, filled: Sequence[Filled], seeds: int) -> bytes:
    """The accuracy of each cell as a coloured field, or over the rounds as a curve in a panel for each attack."""
    first = filled[0].cell.experiment
    options = [options_of(one.cell.experiment) for one in filled]
    counts = f"{first.workers} workers", f"{first.rounds} rounds", f"{seeds} seed{'s' * (seeds != 1)}"
    setting = ", ".join([*dict.fromkeys(text for text in options if text), *counts])
    figure = _fields(plan, filled) if plan.kind == "table" else _curves(plan, filled)
    title = fill(f"{plan.name}: {plan.title} ({setting})", int(_LETTERS * figure.get_figwidth()))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=TEXT)
    return as_png(figure)


def _fields(plan: Plan, filled: Sequence[Filled]) -> Figure:
    blocks = list(plan.blocks())
    heights = [len({cell.row for cell in cells}) for _, cells in blocks]
    widest = max(len({cell.column for cell in cells}) for _, cells in blocks)
    figure = Figure(figsize=(2.6 + 1.15 * widest, 1 + 0.5 * sum(heights) + 0.5 * len(blocks)), layout="constrained")
    panels = figure.subplots(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (block, cells) in zip(panels, blocks, strict=True):
        rows, columns = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("row", "column"))
        values = np.full((len(rows), len(columns)), np.nan)
        for one in filled:
            if one.cell.block == block:
                at = rows.index(one.cell.row), columns.index(one.cell.column)
                values[at] = np.nan if one.accuracy is None else one.accuracy.mean
                text = number(one.accuracy, one.cell.paper)
                panel.text(at[1], at[0], text, ha="center", va="center", fontsize=7.5, color=TEXT)
        panel.imshow(values, vmin=0, vmax=1, cmap=_SHADES, aspect="auto")
        panel.set_xticks(range(len(columns)), columns)
        panel.set_yticks(range(len(rows)), rows, fontsize=8)
        panel.set_title(block, loc="left", fontsize=9, color=QUIET)
        panel.tick_params(colors=TEXT, length=0)
        panel.spines[:].set_visible(False)
    return figure


def _curves(plan: Plan, filled: Sequence[Filled]) -> Figure:
    places = list(dict.fromkeys((one.cell.block, one.cell.column) for one in filled))
    rows = list(dict.fromkeys(one.cell.row for one in filled))
    across = min(_ACROSS, len(places))
    down = -(-len(places) // across)
    figure = Figure(figsize=(3.4 * across + 1.2, 2.5 * down + 0.8), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    several = len({block for block, _ in places}) > 1
    for panel, (block, column) in zip(panels, places, strict=False):
        for one in filled:
            if (one.cell.block, one.cell.column) == (block, column):
                _curve(panel, one, rows.index(one.cell.row), deviations=plan.kind == "curves with deviations")
        panel.set_title(f"{column}, {block}" if several else column, loc="left", fontsize=9, color=TEXT)
        panel.grid(axis="y", color=GRID, linewidth=0.8)
        panel.tick_params(colors=QUIET)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_ylim(0, 1)
    for panel in panels[len(places) :]:
        panel.set_visible(False)
    figure.supxlabel("round", fontsize=9, color=TEXT)
    figure.supylabel("test accuracy", fontsize=9, color=TEXT)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8, labelcolor=TEXT)
    return figure


def _curve(panel: Axes, one: Filled, index: int, *, deviations: bool) -> None:
    curve = one.curve()
    rounds = [at for at, _ in curve]
    means = np.array([found.mean for _, found in curve])
    colour, dashes = COLOURS[index % len(COLOURS)], ("-", "--", ":")[index // len(COLOURS) % 3]
    marker = "o" if len(rounds) == 1 else ""
    panel.plot(rounds, means, color=colour, linestyle=dashes, linewidth=1.5, marker=marker, label=one.cell.row)
    if deviations:
        stds = np.array([found.std or 0.0 for _, found in curve])
        panel.fill_between(rounds, means - stds, means + stds, color=colour, alpha=0.18, linewidth=0)
