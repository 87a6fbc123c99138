"""Pictures of runs, as PNG bytes."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ostrakon.common.errors import OstrakonError
from ostrakon.common.pictures import COLOURS, GRID, QUIET, TEXT, as_png
from ostrakon.deploy.measured import shown_value
from ostrakon.deploy.record import Record

_INNER, _OUTER = "#0072B2", "#E69F00"
_NOTE_HEIGHT = 0.055  # of the first panel


def curves(record: Record) -> bytes:
    """The headline of what was measured, test loss and the votes of one run, over its rounds."""
    voted = any(entry.votes for entry in record.entries)
    heights = [3, 2, 2] if voted else [3, 2]
    figure = Figure(figsize=(9, 1.2 + 1.05 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _title(panels[0], _versus(record.rule, record.against), _setting(record))
    rounds = [measurement.round for measurement in record.measurements]
    _headline(panels[0], record, rounds)
    _loss(panels[1], record, rounds)
    if voted:
        _votes(panels[2], record)
    for panel in panels:
        _dress(panel)
    _attack_changes(panels[0], panels, record)
    panels[-1].set_xlabel("round", color=TEXT)
    panels[-1].set_xlim(0, max([1, *rounds, *(entry.round for entry in record.entries[-1:])]))
    return as_png(figure)


def compare(records: Sequence[Record]) -> bytes:
    """The headline of what was measured in several runs over their rounds, named by their rules.

    Raises:
        OstrakonError: their headlines are not the same.
    """
    headlines = {record.headline: record.name for record in records}
    if len(headlines) > 1:
        told = ", ".join(f"{run} by {headline}" for headline, run in headlines.items())
        raise OstrakonError(f"runs of one picture are measured by the same thing, these are not: {told}")
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    panel = figure.subplots()
    lies = {record.against for record in records}
    settings = {_setting(record) for record in records}
    versus = _against(lies.pop()) if len(lies) == 1 else ""
    title = f"Test {records[0].headline} {versus}".rstrip()
    _title(panel, title, settings.pop() if len(settings) == 1 else "")
    same_rule = Counter(record.rule for record in records)
    for index, record in enumerate(records):
        panel.plot(
            [measurement.round for measurement in record.measurements],
            [measurement.value for measurement in record.measurements],
            color=COLOURS[index % len(COLOURS)],
            linewidth=2,
            label=record.rule if same_rule[record.rule] == 1 else f"{record.rule} ({record.name})",
        )
    if all(record.headline_is_a_share for record in records):
        _percent_axis(panel)
    _dress(panel)
    if len({record.attack_changes for record in records}) == 1:
        _attack_changes(panel, [panel], records[0])
    panel.set_xlabel("round", color=TEXT)
    panel.set_xlim(0, max([1, *(record.rounds for record in records)]))
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5), labelcolor=TEXT)
    return as_png(figure)


def _headline(panel: Axes, record: Record, rounds: list[int]) -> None:
    name, share = record.headline, record.headline_is_a_share
    values = [measurement.value for measurement in record.measurements]
    panel.plot(rounds, values, color=_INNER, linewidth=2, marker="o" if len(rounds) == 1 else "")
    panel.set_ylabel(f"test {name}", color=TEXT)
    last, average = values[-1] if values else math.nan, record.average.value if record.average else math.nan
    if math.isfinite(average):
        panel.axhline(average, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    if share:
        _percent_axis(panel)
    if math.isfinite(last):
        _margin_note(panel, last, shown_value(last, share=share), _INNER)
    if math.isfinite(average):
        level, (low, high) = average, panel.get_ylim()
        if math.isfinite(last) and abs(level - last) < _NOTE_HEIGHT * (high - low):
            level = last + math.copysign(_NOTE_HEIGHT * (high - low), 1 if average > last else -1)
        _margin_note(panel, level, f"{shown_value(average, share=share)} average", QUIET)


def _margin_note(panel: Axes, level: float, text: str, colour: str) -> None:
    panel.text(1.01, level, text, transform=panel.get_yaxis_transform(), va="center", color=colour, fontsize=9)


def _loss(panel: Axes, record: Record, rounds: list[int]) -> None:
    values = np.array([measurement.loss for measurement in record.measurements])
    panel.plot(rounds, values, color=_INNER, linewidth=2, marker="o" if len(rounds) == 1 else "")
    panel.set_ylabel("test loss", color=TEXT)
    positive = values[np.isfinite(values) & (values > 0)]
    if len(positive) and positive.max() > 30 * positive.min():
        panel.set_yscale("log")
    else:
        panel.set_ylim(bottom=0)


def _votes(panel: Axes, record: Record) -> None:
    """By how many votes each round was won: Inner's wins upwards, Outer's downwards."""
    rounds = [entry.round for entry in record.entries]
    tallies = [Counter(vote.choice for vote in entry.votes) for entry in record.entries]
    lead = np.array([tally["inner"] - tally["outer"] for tally in tallies])
    for sign, colour in ((1, _INNER), (-1, _OUTER)):
        panel.fill_between(rounds, np.where(sign * lead > 0, lead, 0), step="mid", color=colour, linewidth=0)
    panel.axhline(0, color=QUIET, linewidth=0.8)
    wins = Counter(entry.choice for entry in record.entries if entry.votes)
    notes: tuple[tuple[str, str, float], ...] = (
        (f"Inner won {wins['inner']}", _INNER, 0.75),
        (f"Outer won {wins['outer']}", _OUTER, 0.25),
    )
    silent = sum(not entry.votes for entry in record.entries)
    if silent:
        notes = (*notes, (f"{silent} without a vote", QUIET, 0.5))
    for text, colour, height in notes:
        panel.text(1.01, height, text, transform=panel.transAxes, va="center", color=colour, fontsize=9)
    panel.set_ylim(-record.n - 0.5, record.n + 0.5)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    panel.set_ylabel("votes ahead", color=TEXT)


def _title(panel: Axes, title: str, subtitle: str) -> None:
    panel.set_title(title, loc="left", pad=24, fontsize=14, fontweight="bold", color=TEXT)
    panel.text(0, 1.03, subtitle, transform=panel.transAxes, fontsize=10, color=QUIET)


def _versus(rule: str, lies: str) -> str:
    return f"{rule} {_against(lies)}" if lies else rule


def _against(lies: str) -> str:
    return f"against {lies}" if lies else ""


def _attack_changes(top: Axes, panels: Sequence[Axes], record: Record) -> None:
    """A line down all panels where the liars change their attack, named above it."""
    for round, name in record.attack_changes:
        for panel in panels:
            panel.axvline(round, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        top.annotate(
            f" {name} from here",
            (round, 1),
            xycoords=top.get_xaxis_transform(),
            va="top",
            color=QUIET,
            fontsize=9,
            annotation_clip=True,
        )


def _setting(record: Record) -> str:
    return f"task {record.task}, n = {record.n} workers, f = {record.f}"


def _percent_axis(panel: Axes) -> None:
    panel.set_ylim(0, 1)
    panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _dress(panel: Axes) -> None:
    panel.grid(axis="y", color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(QUIET)
    panel.tick_params(colors=QUIET, labelcolor=TEXT)
    panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
