"""Running a plan: what is not known yet is computed, and kept run by run."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.data import worker_data
from ostrakon.common.tasks.registry import task
from ostrakon.common.traces import last_line
from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.tables.cluster import on_ray
from ostrakon.experiments.tables.computing import Computed, Tell, groups
from ostrakon.experiments.tables.logs import Log
from ostrakon.experiments.tables.plan import Cell, Plan
from ostrakon.experiments.tables.pool import in_processes, in_this_process
from ostrakon.experiments.tables.settings import TableSettings
from ostrakon.experiments.tables.store import Record, Store


@dataclass(frozen=True)
class Wanted:
    """A run that is to be computed, and a cell of a plan that it belongs to."""

    plan: str
    cell: Cell
    experiment: Experiment

    def __str__(self) -> str:
        return f"{self.cell.block}, {self.cell.row}, {self.cell.column}, seed {self.experiment.seed}"

    @property
    def name(self) -> str:
        """The same, as a file's name."""
        return re.sub(r"[^A-Za-z0-9.+]+", "-", f"{self.plan} {self}").strip("-")


def wanted(plan: Plan, seeds: int, store: Store) -> list[Wanted]:
    """The runs of a plan that are not known, each once, seed by seed; those that failed are tried again."""
    found: dict[str, Wanted] = {}
    for seed in range(1, seeds + 1):
        for cell in plan.cells:
            one = cell.with_seed(seed)
            known = store.read(one)
            if known is None or known.error is not None:
                found.setdefault(one.model_dump_json(), Wanted(plan.name, cell, one))
    return list(found.values())


def run(
    runs: Sequence[Wanted],
    settings: TableSettings,
    store: Store,
    *,
    tell: Tell = lambda rounds: None,
    finished: Callable[[Wanted, Record], object] = lambda one, record: None,
    log: Log | None = None,
) -> None:
    """Compute runs, and keep each as soon as it is over. Interrupted, it leaves what is kept whole.

    Args:
        tell: how far it is.
        finished: is told each run that is over.
        log: is told each that was computed.

    Raises:
        OstrakonError: the device, the data or Ray cannot be used, or a run cannot be logged.
        OSError: a record cannot be written.
    """
    by_settings = {one.experiment.model_dump_json(): one for one in runs}
    _check_data([one.experiment for one in runs])
    with closing(_computed([one.experiment for one in runs], settings, tell)) as computed:
        for group, records in computed:
            for experiment, record in zip(group, records, strict=True):
                store.write(experiment, record)
                one = by_settings[experiment.model_dump_json()]
                if log is not None and record.error is None:
                    _log(log, one, record)
                finished(one, record)


def _computed(experiments: Sequence[Experiment], settings: TableSettings, tell: Tell) -> Computed:
    """All runs with their records, in the order in which they are over."""
    if not experiments:
        return in_this_process((), tell)
    if settings.on == "ray":
        return on_ray(groups(experiments, 1 if settings.device == "cpu" else settings.together), tell)
    on_cpu = resolve_device(settings.device).type == "cpu"
    split = groups(experiments, 1 if on_cpu else settings.together)
    jobs = min(settings.jobs or (_cores() if on_cpu else 1), len(split))
    return in_this_process(split, tell) if jobs == 1 else in_processes(split, jobs, tell)


def _log(log: Log, one: Wanted, record: Record) -> None:
    try:
        log(one.name, one.experiment, record.measured)
    except Exception as error:  # whatever those raise who keep logs
        raise OstrakonError(
            f"{one} is kept, but cannot be logged ({last_line(error)}): mend that, or leave LOG out, and give the same "
            "command"
        ) from error


def _check_data(experiments: Sequence[Experiment]) -> None:
    """Let the tasks read or make the data of one worker: what cannot be used is found before anything starts."""
    for one in {
        one.model_dump_json(include={"task", "data", "options", "workers"}): one for one in experiments
    }.values():
        worker_data(task(one.task, one.data, one.seed, one.options), 0, one.workers, one.seed)


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
