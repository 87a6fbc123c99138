"""Figure 1: why one rule cannot be enough, with two attacks in the plane of the drawing.

Source: the paper, section 4.1: n = 11, f = 5, of which 7 are honest and 4 are not.
"""

import csv
import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ostrakon.common.aggregation import rule
from ostrakon.common.markdown import table
from ostrakon.common.pictures import QUIET, TEXT, as_png
from ostrakon.worker.attacks import Defence, attack

N, F, LIARS = 11, 5, 4
_SEED = 9
_AWAY = 1.5  # the honest mean's distance from 0, in deviations of the honest vectors
_MARKS = {"average": "x", "Inner": "+", "Outer": "*"}
_HONEST, _LIARS, _RESULTS = "#0072B2", "#000000", "#D55E00"


@dataclass(frozen=True)
class Drawn:
    """One attack.

    Attributes:
        attack: its name.
        honest, corrupted: (7, d) and (4, d), from the mean of the honest.
        results: what the plain average, Inner and Outer make of all of them, (d,), likewise.
    """

    attack: Literal["sneak", "siege"]
    honest: NDArray[np.float32]
    corrupted: NDArray[np.float32]
    results: dict[str, NDArray[np.float32]]

    def off(self, name: str) -> float:
        """How far a result is from the mean of the honest."""
        return float(np.linalg.norm(self.results[name]))


def draw(dimensions: int = 3) -> tuple[Drawn, Drawn]:
    """Both attacks on the same honest vectors; in three dimensions, of which two are drawn."""
    rng = np.random.default_rng(_SEED)
    honest = torch.from_numpy(rng.standard_normal((N - LIARS, dimensions), dtype=np.float32))
    honest[:, 0] += _AWAY
    return _mounted("sneak", honest), _mounted("siege", honest)


def _mounted(name: Literal["sneak", "siege"], honest: Tensor) -> Drawn:
    two_phase = rule("Mean2P")
    rng = np.random.default_rng(_SEED)
    sent = attack(name).send(honest, honest[:LIARS], rng=rng, defence=Defence(two_phase, N, F))
    x, centre = torch.cat([sent, honest]), honest.mean(dim=0)
    inner, outer = two_phase.aggregate(x, F)
    results = {"average": x.mean(dim=0), "Inner": inner.vector, "Outer": outer.vector}
    moved = {one: (vector - centre).numpy() for one, vector in results.items()}
    return Drawn(name, (honest - centre).numpy(), (sent - centre).numpy(), moved)


def picture(drawn: tuple[Drawn, Drawn]) -> bytes:
    """Both attacks side by side, around the mean of the honest."""
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    for panel, one in zip(figure.subplots(1, 2), drawn, strict=True):
        _points(panel, one)
    return as_png(figure)


def _points(panel: Axes, one: Drawn) -> None:
    panel.axhline(0, color=QUIET, linewidth=0.5)
    panel.axvline(0, color=QUIET, linewidth=0.5)
    panel.plot(*one.honest[:, :2].T, "o", color=_HONEST, label=f"{N - LIARS} honest")
    panel.plot(*one.corrupted[:, :2].T, "s", color=_LIARS, label=f"{LIARS} Byzantine")
    for name, mark in _MARKS.items():
        label = f"{name}, {one.off(name):.2f} from the honest mean"
        panel.plot(*one.results[name][:2], mark, color=_RESULTS, markersize=12, markeredgewidth=2, label=label)
    panel.set_title(one.attack, loc="left", fontsize=11, color=TEXT)
    panel.set_aspect("equal", adjustable="datalim")
    panel.tick_params(colors=QUIET)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=1)


def as_markdown(drawn: tuple[Drawn, Drawn]) -> str:
    """How far from the mean of the honest each result is."""
    rows = [[f"`{one.attack}`", *(f"{one.off(name):.2f}" for name in _MARKS)] for one in drawn]
    text = (
        f"**figure1**: distance from the mean of the honest, of {N} vectors with f = {F}, {LIARS} of them Byzantine. "
        "Whichever of Inner and Outer a server takes alone, one of two attacks is the one that it does not see."
    )
    return f"{text}\n\n{table(['attack', *_MARKS], rows)}"


def as_csv(drawn: tuple[Drawn, Drawn]) -> str:
    """All points, as they are drawn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["attack", "what", "x", "y"])
    for one in drawn:
        for what, points in (("honest", one.honest), ("Byzantine", one.corrupted)):
            writer.writerows([one.attack, what, f"{p[0]:.4f}", f"{p[1]:.4f}"] for p in points)
        writer.writerows([one.attack, name, f"{p[0]:.4f}", f"{p[1]:.4f}"] for name, p in one.results.items())
    return text.getvalue()
