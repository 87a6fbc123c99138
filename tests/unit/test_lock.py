"""Who holds a run's lock, before and after a take-over."""

from contextlib import ExitStack
from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.server.storage.lock import locked
from tests.harness.cluster import wait_for


def holder(path: Path) -> str:
    """Who is said to hold the lock; empty if nobody does."""
    try:
        with locked(path, "elsewhere", take_over=False):
            return ""
    except OstrakonError as refused:
        return str(refused)


def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, "first:1", take_over=False):
        assert "at first:1: stop that server, or start this one with --take-over" in holder(path)
    assert holder(path) == ""


def test_who_has_taken_over_holds_the_lock_once_the_other_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with ExitStack() as first:
        first.enter_context(locked(path, "first:1", take_over=False))
        with locked(path, "second:2", take_over=True):
            assert "at second:2" in holder(path)
            first.close()
            wait_for(lambda: holder(path), "the second to hold the lock")
