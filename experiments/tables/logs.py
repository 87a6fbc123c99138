"""Logging runs elsewhere: a log is told of each run that was computed here, once it is over."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from ostrakon.experiments.experiment import Experiment, Measurement
from ostrakon.experiments.tables.extras import extra

Log = Callable[[str, Experiment, Sequence[Measurement]], object]
"""Takes the name of a run, its settings, and its measurements in the order of their rounds."""


def log(name: Literal["tensorboard", "mlflow"], folder: Path) -> Log:
    """A log by its name.

    Args:
        folder: for what keeps files beside the results.

    Raises:
        OstrakonError: what it needs is not installed.
    """
    return _tensorboard(folder) if name == "tensorboard" else _mlflow()


def _tensorboard(folder: Path) -> Log:
    module = extra("torch.utils.tensorboard", "tensorboard", "LOG=tensorboard")

    def tell(run: str, experiment: Experiment, measurements: Sequence[Measurement]) -> None:
        with module.SummaryWriter(str(folder / run)) as writer:
            for one in measurements:
                writer.add_scalar("accuracy", one.accuracy, one.round)
                writer.add_scalar("accuracy, pooled", one.pooled, one.round)

    return tell


def _mlflow() -> Log:
    """Where MLflow writes to is MLflow's own setting, as in MLFLOW_TRACKING_URI."""
    module = extra("mlflow", "mlflow", "LOG=mlflow")

    def tell(run: str, experiment: Experiment, measurements: Sequence[Measurement]) -> None:
        with module.start_run(run_name=run):
            module.log_params(experiment.model_dump(mode="json"))
            for one in measurements:
                module.log_metrics({"accuracy": one.accuracy, "accuracy_pooled": one.pooled}, step=one.round)

    return tell
