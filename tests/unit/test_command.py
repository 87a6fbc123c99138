"""A command works in whatever shell it is started: streams that are closed, unread, full, or of few letters."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.cluster import importing

BEGIN = "from ostrakon.common.command import begin; begin(); import os, sys, tempfile; "


def command(program: str, shell: str = "", **environment: str) -> Any:
    """The end of a command in a shell that redirects it."""
    words = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-c", BEGIN + program]
    return subprocess.run(
        words, env=importing() | environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=90, check=False
    )


def test_a_stream_that_is_closed_is_as_one_that_leads_nowhere(tmp_path: Path) -> None:
    program = (
        "file = open(sys.argv[1], 'w'); print('out'); print('error', file=sys.stderr); "
        "file.write(f'{file.fileno() > 2} {sys.stdin.read()!r} {os.get_inheritable(1)}')"
    ).replace("sys.argv[1]", repr(str(tmp_path / "told")))
    for shell in ("<&- >&- 2>&-", ">&-", "<&-"):
        done = command(program, shell)
        assert (done.returncode, (tmp_path / "told").read_text()) == (0, "True '' True")


def test_letters_that_a_terminal_does_not_have_are_written_in_others() -> None:
    program = "print('\\u03b8 \\u2014 \\udcff'); print('\\u03b8', file=sys.stderr)"
    done = command(program, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, rb"\u03b8 \u2014 \udcff" + b"\n", rb"\u03b8" + b"\n")
    done = command(program, PYTHONIOENCODING="latin-1")
    assert done.stdout == rb"\u03b8 \u2014 \udcff" + b"\n"


@pytest.mark.parametrize(("shell", "why"), [("| head -1", b"Broken pipe"), (">/dev/full", b"No space left on device")])
def test_work_goes_on_when_nobody_takes_what_it_shows(shell: str, why: bytes) -> None:
    done = command("[print(i, flush=True) for i in range(100000)]; print('done', file=sys.stderr)", shell)
    assert done.stderr == b"what is shown goes nowhere any more (" + why + b"): going on without\ndone\n"


def test_a_temporary_folder_with_a_long_path_or_none_is_replaced(tmp_path: Path) -> None:
    deep = tmp_path / ("t" * 100)
    deep.mkdir()
    for folder in (deep, tmp_path / "nowhere"):
        done = command("print(len(tempfile.gettempdir()))", TMPDIR=str(folder))
        assert 0 < int(done.stdout) < 60, done.stderr
    done = command("print(tempfile.gettempdir())", TMPDIR=os.path.realpath("/tmp"))
    assert done.stdout.strip() == os.path.realpath("/tmp").encode()
