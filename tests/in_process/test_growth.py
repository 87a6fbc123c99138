"""What a run of many rounds takes on disk."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon.server.core.metrics import MetricsFile
from ostrakon.server.storage.ledger import Committed, CountedVote
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelKey, ModelStore
from tests.harness.house import House, Pull
from tests.harness.lost_model import model_file
from tests.harness.scenario import play

ROUNDS = 10_000


def roster(n: int) -> tuple[str, ...]:
    return tuple(f"w{number:02}" for number in range(n))


def house_of(folder: Path, n: int, **settings: Any) -> House:
    folder.mkdir(exist_ok=True)
    return House(folder, roster=roster(n), f=(n - 1) // 2, absent_after=1, **settings)


def pullers(house: House) -> list[Any]:
    return [house.session(name, Pull(1 + number / 7)) for number, name in enumerate(house.settings.roster)]


@pytest.mark.slow
def test_after_hundreds_of_rounds_there_are_as_many_models_as_are_to_be_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(list((tmp_path / "models").iterdir())))
                await asyncio.sleep(0)

        for rounds in (100, 300):  # and a restart between them
            house = House(tmp_path, rounds=rounds, keep_models=3)
            watching = asyncio.create_task(watch())
            await house.run(*pullers(house))
            watching.cancel()
            await house.stop()
        assert most <= 3 + 2  # and both candidates

    play(scenario())
    expected = [model_file(tmp_path, round) for round in (298, 299, 300)]
    assert sorted((tmp_path / "models").iterdir()) == sorted(expected)


def test_a_model_that_stays_as_it_is_is_not_deleted_with_the_rounds_before(tmp_path: Path) -> None:
    """A model of zeros, whose sum is zeros too, is one file in all rounds."""

    async def scenario() -> None:
        house = House(tmp_path, rounds=6)
        await house.run(*(house.session(name, Pull(0.0)) for name in "abc"))
        entry = house.entry(6)
        ModelStore(tmp_path / "models").read(ModelKey(entry.winner, entry.running_sum))
        await house.stop()

    play(scenario())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("ledger.sqlite*"))


@pytest.mark.parametrize("n", [10, 35])
def test_the_ledger_and_the_metrics_of_ten_thousand_rounds_take_less_than_100_mb(tmp_path: Path, n: int) -> None:
    """Though everybody votes, with losses of all digits, nearly half are refused something twice, and are missing."""

    async def scenario() -> None:
        house = house_of(tmp_path, n, rounds=1)
        await house.run(*pullers(house))
        await house.stop()
        ((event, values),) = [one for one in house.metrics.events if one[0] == "round"]
        metrics = MetricsFile(tmp_path / "metrics.jsonl")
        metrics.record(event, **values)
        metrics.close()

    play(scenario())
    line = (tmp_path / "metrics.jsonl").stat().st_size
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    entry = ledger.entry(1)
    assert entry is not None
    random = np.random.default_rng(1)
    names = roster(n)
    votes = tuple(CountedVote(name, "inner", random.random(), random.random()) for name in names)
    before, count = _size(tmp_path), 200
    previous = entry
    for number in range(count):
        following = replace(
            entry,
            round=previous.round + 1,
            base=previous.winner,
            inner=f"{number:064x}",
            outer=f"{number + 1:064x}",
            winner=f"{number:064x}",
            votes=votes,
            inner_cluster=names,
            outer_cluster=names,
            missing=dict.fromkeys(names[: n // 2], "silent"),
            refused={name: {"too many calls": 100, "wrong digest": 100} for name in names[: n // 2]},
            previous=previous.hash,
        )
        assert ledger.try_commit(following) == Committed()
        previous = following
    ledger.close()
    each = (_size(tmp_path) - before) / count
    print(f"n={n}: {each:.0f} bytes of ledger and {line} of metrics a round")
    assert ROUNDS * (each + line) < 100e6
