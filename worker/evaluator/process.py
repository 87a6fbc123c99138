"""One evaluator process, from its settings file to its end."""

from pathlib import Path

from ostrakon.common.runtime import run_to_exit, start_log
from ostrakon.common.settings import read
from ostrakon.worker.evaluator.follower import follow
from ostrakon.worker.testbed.settings import WorkerFile


def main(config: Path, log_file: Path | None) -> None:
    """Follow a run as a settings file says; ends the process with its exit status."""
    start_log(log_file)
    run_to_exit(lambda: follow(read(WorkerFile, config)), log_file)
