"""What a launcher makes of a process that has ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ostrakon.deploy.processes import DONE, USER_ERROR, Child


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child("w01", "module", tmp_path / "w01.toml", tmp_path / "w01.log", tmp_path / "lock")


def lives(child: Child, code: int | None, log: str = "") -> None:
    """One life of it, as far as it has come."""
    child.log.touch()
    child._log_start = child.log.stat().st_size
    with child.log.open("a") as file:
        file.write(log)
    process: Any = SimpleNamespace(exitcode=code, close=lambda: None)
    child._process = process
    child.settle()


def test_a_death_is_told_by_the_last_line_of_the_log(child: Child) -> None:
    lives(child, 1, "died: KeyError: 'x' (mytask.py, line 4, in worker_data)\n")
    lives(child, 1, "Traceback\n")  # not what it died of before
    lives(child, -9)
    assert child.deaths == [
        "KeyError: 'x' (mytask.py, line 4, in worker_data)",
        "died with status 1",
        "was killed by SIGKILL",
    ]
    assert (child.status, child.alive) == (None, False)


def test_three_deaths_are_the_same_where_only_numbers_differ(child: Child) -> None:
    for address in ("0x7f00", "0x7f10"):
        lives(child, 1, f"died: ValueError: <Tensor at {address}> (mytask.py, line 4, in loss)\n")
    assert child.died_the_same_way(2)
    assert not child.died_the_same_way(3)
    lives(child, -9)
    assert not child.died_the_same_way(2)
    lives(child, -9)
    lives(child, -9)
    assert child.died_the_same_way(3)


def test_who_is_done_or_met_a_users_error_is_not_dead(child: Child) -> None:
    lives(child, None)
    assert (child.status, child.alive) == (None, True)
    lives(child, USER_ERROR, "error: data x.npz does not exist\n")
    assert (child.status, child.error(), child.deaths) == (USER_ERROR, "data x.npz does not exist", [])
    lives(child, DONE)
    assert child.status == DONE
