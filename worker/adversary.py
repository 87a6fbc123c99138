"""The process that is the colluders' meeting place, for test beds only."""

from pathlib import Path

from ostrakon.common.runtime import run_to_exit, start_log
from ostrakon.common.settings import read
from ostrakon.worker.testbed.settings import AdversarySettings


def main(config: Path, log_file: Path | None) -> None:
    """Serve as a settings file says; ends the process with its exit status."""
    from ostrakon.worker.testbed.service import serve  # gRPC comes with it

    start_log(log_file)
    run_to_exit(lambda: serve(read(AdversarySettings, config)), log_file)
