"""Who holds what of a task's data: the examples of each class that each worker trains and is tested on; a picture."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from ostrakon.common.errors import OstrakonError
from ostrakon.common.pictures import COLOURS, GRID, QUIET, TEXT, as_png
from ostrakon.common.tasks.characters import CHARACTERS, Characters
from ostrakon.common.tasks.contract import Task, described
from ostrakon.common.tasks.data import worker_data, worker_test_data
from ostrakon.common.tasks.registry import task
from ostrakon.deploy.run_folder import roster
from ostrakon.deploy.settings import RunSettings
from ostrakon.worker.own_data import data_of

_COLOUR = COLOURS[0]
_LARGEST = 150.0  # square points of the largest bubble
_MOST_CLASSES = 10_000
_NAMED = 70  # classes that each have their name beside them


@dataclass(frozen=True)
class Holdings:
    """What each worker holds.

    Attributes:
        heading: the task, and how its data are partitioned.
        names: of the classes.
        training: (workers, classes), examples.
        tests: (workers, classes), examples of the workers' own test sets.
    """

    heading: str
    names: tuple[str, ...]
    training: NDArray[np.int64]
    tests: NDArray[np.int64]


def _tasks(settings: RunSettings) -> list[Task]:
    """The task of each worker: one for all of them, but where each has a file of its own."""
    files = [data_of(settings.data, id) for id in roster(settings)]
    made = {file: task(settings.task, file, settings.seed, settings.options) for file in dict.fromkeys(files)}
    return [made[file] for file in files]


def holdings(settings: RunSettings) -> Holdings:
    """Count what the workers of a run would hold.

    Raises:
        OstrakonError: the task cannot be used, or its labels are no classes.
    """
    n, seed = settings.workers, settings.seed
    tasks = _tasks(settings)
    made = tasks[0]
    training = [_counts(settings.task, worker_data(one, worker, n, seed).labels) for worker, one in enumerate(tasks)]
    tests = [_counts(settings.task, worker_test_data(one, worker, n, seed).labels) for worker, one in enumerate(tasks)]
    declared = getattr(made, "classes", None)
    known = declared if isinstance(declared, int) and declared <= _MOST_CLASSES else 0
    classes = max(known, *map(len, training), *map(len, tests))
    names = tuple(CHARACTERS) if isinstance(made, Characters) else tuple(map(str, range(classes)))
    heading = f"{made}: {n} workers, seed {seed}"
    return Holdings(heading, names, _padded(training, classes), _padded(tests, classes))


def table(held: Holdings) -> Table:
    """A line for each worker: how many examples it holds, of how many classes, and what it holds most of."""
    found = Table(box=None)
    for column in ("worker", "training", "classes", "most", "share", "own test set"):
        found.add_column(column, justify="right")
    for worker, (training, tests) in enumerate(zip(held.training, held.tests, strict=True)):
        most = int(training.argmax())
        share = training[most] / training.sum()
        found.add_row(
            str(worker),
            str(training.sum()),
            str(np.count_nonzero(training)),
            held.names[most],
            f"{100 * share:.0f} %",
            str(tests.sum()),
        )
    return found


def picture(held: Holdings) -> bytes:
    """A bubble for each worker and class, its area the number of examples, as PNG."""
    workers, classes = held.training.shape
    figure = Figure(figsize=(8, 2 + 0.095 * min(classes, _NAMED)), layout="constrained")
    panel = figure.subplots()
    across, up = np.nonzero(held.training)
    counts, largest = held.training[across, up], held.training.max()
    panel.scatter(across, up, s=_LARGEST * counts / largest, color=_COLOUR, alpha=0.75, linewidth=0)
    panel.set_title(held.heading, loc="left", fontsize=10, color=TEXT)
    panel.set_xlabel("worker", color=TEXT)
    panel.set_ylabel("class", color=TEXT)
    panel.set_xlim(-0.8, workers - 0.2)
    panel.set_ylim(-1, classes)
    if classes <= _NAMED:
        panel.set_yticks(range(classes), held.names, fontsize=6 if classes > 20 else 9)
    for size in sorted({int(largest), max(1, int(largest) // 10)}, reverse=True):
        panel.scatter([], [], s=_LARGEST * size / largest, color=_COLOUR, alpha=0.75, linewidth=0, label=str(size))
    panel.legend(title="examples", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1.5)
    _dress(panel)
    return as_png(figure)


def _dress(panel: Axes) -> None:
    panel.grid(visible=True, color=GRID, linewidth=0.5)
    panel.set_axisbelow(True)
    panel.tick_params(colors=QUIET, length=0)
    for side in panel.spines.values():
        side.set_visible(False)


def _counts(name: str, labels: Tensor) -> NDArray[np.int64]:
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise OstrakonError(
            f"task {name} has labels {described(labels)}, expected int64 (m,): what is counted are classes"
        )
    if labels.min() < 0 or labels.max() >= _MOST_CLASSES:
        raise OstrakonError(
            f"task {name} has labels from {labels.min()} to {labels.max()}: what is counted are classes from 0 to "
            f"{_MOST_CLASSES - 1}"
        )
    return np.bincount(labels.numpy())


def _padded(counts: list[NDArray[np.int64]], classes: int) -> NDArray[np.int64]:
    return np.stack([np.pad(each, (0, classes - len(each))) for each in counts])
