"""How a process ends: its status, and one sentence for whoever has to mend what ended it."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ostrakon.common.errors import OstrakonError
from ostrakon.common.runtime import run_to_exit, start_log


@pytest.fixture(autouse=True)
def others_log() -> Iterator[None]:
    """What other tests log does not go where these did."""
    yield
    structlog.reset_defaults()


def ends(error: Exception | None, log: Path) -> tuple[int, str]:
    """Exit status and last line."""
    start_log(log)

    def work() -> None:
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as caught:
        run_to_exit(work, log)
    return int(str(caught.value.code)), log.read_text().strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    ("number", "file", "sentence"),
    [
        (errno.ENOSPC, None, "no space left for a file"),
        (errno.EDQUOT, "run/metrics.jsonl", "no space left for run/metrics.jsonl"),
        (errno.EROFS, "run/server.lock", "no right to write run/server.lock"),
        (errno.EACCES, "run/server.lock", "no right to write run/server.lock"),
        (errno.EIO, None, "the disk fails at a file"),
    ],
)
def test_a_disk_that_fails_is_named_in_a_sentence(tmp_path: Path, number: int, file: str | None, sentence: str) -> None:
    error = OSError(number, os.strerror(number), file) if file else OSError(number, os.strerror(number))
    status, line = ends(error, tmp_path / "log")
    assert status == 2
    assert line.startswith(f"error: {sentence} ({os.strerror(number)}): ")
    assert line.endswith("start again; nothing committed is lost")


@pytest.mark.parametrize("error", [ValueError("oh"), ConnectionResetError("oh"), PermissionError(errno.EPERM, "oh")])
def test_what_nobody_foresaw_is_a_death_with_its_traceback(tmp_path: Path, error: Exception) -> None:
    status, line = ends(error, tmp_path / "log")
    assert status == 1
    assert "Traceback" in (tmp_path / "log").read_text()
    assert line.startswith(f"died: {type(error).__name__}: ")
    assert re.search(r"oh \(\S*test_runtime.py, line \d+, in work\)$", line)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOTDIR, "leads through a file"),
        (errno.EEXIST, "is in the way"),
        (errno.EISDIR, "is a folder where a file is needed"),
        (errno.ENOENT, "does not exist"),
        (errno.ENAMETOOLONG, "is too long a path"),
        (errno.ELOOP, "is a link that leads to itself"),
    ],
)
def test_a_path_that_cannot_be_used_is_a_sentence_and_nothing_to_begin_again(
    tmp_path: Path, number: int, said: str
) -> None:
    status, line = ends(OSError(number, os.strerror(number), "runs/one"), tmp_path / "log")
    assert (status, line.partition(said)[0]) == (2, "error: runs/one ")
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert said in ends(OSError(number, os.strerror(number)), tmp_path / "log")[1]


def test_what_the_system_refuses_for_now_may_be_tried_again(tmp_path: Path) -> None:
    for number in (errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.ECONNRESET):
        assert ends(OSError(number, os.strerror(number), "runs/one"), tmp_path / "log")[0] == 1


def test_a_message_of_many_lines_and_no_end_is_one_line(tmp_path: Path) -> None:
    status, line = ends(ValueError("one\ntwo " + 5000 * "x"), tmp_path / "log")
    assert status == 1
    assert line.startswith("died: ValueError: one two xxx")
    assert len(line) < 700


def test_a_users_error_is_its_sentence(tmp_path: Path) -> None:
    assert ends(OstrakonError("this is wrong"), tmp_path / "log") == (2, "error: this is wrong")
    assert ends(None, tmp_path / "log")[0] == 0


def test_where_no_log_can_be_written_the_sentence_goes_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "nowhere" / "log"
    start_log(log)

    def work() -> None:
        raise OstrakonError("this is wrong")

    with pytest.raises(SystemExit) as caught:
        run_to_exit(work, log)
    assert caught.value.code == 2
    assert "error: this is wrong" in capsys.readouterr().err
