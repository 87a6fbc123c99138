"""No decision depends on the wall clock: it may jump, stand still or run backwards."""

import ast
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.harness.cluster import ROOT
from tests.harness.house import House, pulls
from tests.harness.scenario import play

# Where the date is read, and what for.
READERS = {
    "common/identity/credentials.py": "whether a certificate is valid",
    "server/storage/run.py": "the date in a genesis, which nothing is compared with",
}
WALL_CLOCK = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.strftime"} | {
    f"{module}{name}" for module in ("", "datetime.") for name in ("datetime.now", "datetime.utcnow", "date.today")
}


def readers() -> Iterator[str]:
    """The files of the product's rounds in which the wall clock is read."""
    for room in ("common", "server", "worker"):
        for path in (ROOT / room).rglob("*.py"):
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
            if any(ast.unparse(call) in WALL_CLOCK for call in calls):
                yield str(path.relative_to(ROOT))


def test_the_wall_clock_is_read_for_certificates_and_for_the_date_of_a_run_alone() -> None:
    assert set(readers()) == set(READERS)


def chain(folder: Path) -> list[str]:
    """The digests of a run in `folder`, whose server is restarted once."""
    folder.mkdir()

    async def scenario() -> list[str]:
        for rounds in (3, 6):
            house = House(folder, rounds=rounds)
            assert await house.run(*pulls(house)) == ["completed"] * 4
            await house.stop()
        house = House(folder, rounds=6)
        entries = list(house.ledger.entries())
        await house.stop()
        assert all(0 <= entry.seconds < 60 for entry in entries)
        return [entry.winner for entry in entries]

    return play(scenario())


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = chain(tmp_path / "calm")
    jumps = random.Random(1)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.fromtimestamp(time.time(), UTC)

    monkeypatch.setattr(time, "time", lambda: jumps.uniform(0, 2**31))
    monkeypatch.setattr("ostrakon.server.storage.run.datetime", Jumping)
    assert chain(tmp_path / "jumping") == undisturbed
