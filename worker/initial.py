"""theta_0: the task's model with the weights that follow from the seed, as a file for the server."""

from pathlib import Path

from ostrakon.common.flat_model import FlatModel
from ostrakon.common.model_file import write_model
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from ostrakon.worker.settings import WorkerSettings


def write_initial(settings: WorkerSettings, path: Path) -> None:
    """Write the initial model of the settings' task and seed.

    Raises:
        OstrakonError: the task cannot be used, its model cannot be flattened, or the file cannot be written.
    """
    made = task(settings.task, settings.data, settings.seed, settings.options)
    model = FlatModel(initial_model(made, settings.seed), "cpu")
    metadata = {"task": settings.built_for, "seed": str(settings.seed)}
    write_model(path, model.theta.numpy(), model.layout, metadata, model.fixed())
