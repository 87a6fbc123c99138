"""`python -m ostrakon.worker.adversary --config FILE`: the colluders' meeting place, for test beds only."""

from pathlib import Path
from typing import Annotated

import typer

from ostrakon.common.command import begin
from ostrakon.common.runtime import run_to_exit, start_log
from ostrakon.common.settings import read
from ostrakon.worker.testbed.settings import AdversarySettings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def adversary(config: Annotated[Path, typer.Option(help="TOML file with the adversary's settings.")]) -> None:
    """Test beds only: be the meeting place of colluders, which know what tapped honest workers send."""
    main(config, None)


def main(config: Path, log_file: Path | None) -> None:
    """Serve as a settings file says; ends the process with its exit status."""
    from ostrakon.worker.testbed.service import serve  # gRPC comes with it

    start_log(log_file)
    run_to_exit(lambda: serve(read(AdversarySettings, config)), log_file)


if __name__ == "__main__":
    begin()
    app()
