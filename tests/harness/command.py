"""The command `ostrakon`, run in this process: it has loaded everything, and what it starts is forked as ever.

For tests of what a run does. How the command meets signals, terminals and environments is shown by commands of their
own, which take seconds to load torch.
"""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from ostrakon.cli.main import run
from ostrakon.common.runtime import run_to_exit


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and what it printed."""

    status: object
    said: str
    wrong: str


def ostrakon(folder: Path, *words: str) -> Ended:
    """Run `ostrakon WORDS` in a folder."""
    said, wrong = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        try:
            run_to_exit(lambda: sys.exit(run(words)), None)
        except SystemExit as ended:
            status = ended.code
    return Ended(status, said.getvalue(), wrong.getvalue())
