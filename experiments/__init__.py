"""Whole runs in one process, for tables and trials: the same rules, attacks, votes and round as over the network.

`run` computes an experiment with all workers of a round at once; `run_together` several side by side; with
`exact=True` a run is computed worker by worker, with the code and the draws of networked workers, and commits what they
would commit.
"""

from collections.abc import Callable

from ostrakon.experiments.engine import run_together
from ostrakon.experiments.experiment import Experiment, Measurement, Result, Vote, experiment

__all__ = ["Experiment", "Measurement", "Result", "Vote", "experiment", "run", "run_together"]


def run(
    experiment: Experiment, *, exact: bool = False, progress: Callable[[int], object] = lambda round: None
) -> Result:
    """Run one experiment.

    Args:
        exact: worker by worker, as over the network; two to three times slower.
        progress: is told each round that is over.

    Raises:
        OstrakonError: the device or the task cannot be used, or the task's code raises.
    """
    if exact:
        from ostrakon.experiments.exact import run_exact

        return run_exact(experiment, progress)
    return run_together([experiment], progress)[0]
