"""A last write that was torn: what was committed is there, or its loss is seen; a ledger never tells anything else."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from tests.harness.house import House, pulls
from tests.harness.lost_model import completed
from tests.harness.scenario import cancel, play, reached

ROUNDS = 6


def hashes(path: Path) -> list[str]:
    """The chain, as far as it is told."""
    ledger = SqliteLedger(path)
    try:
        genesis, entries = ledger.genesis(), list(ledger.entries())
    finally:
        ledger.close()
    if genesis is None:
        return []
    previous = genesis.hash
    for entry in entries:
        assert entry.previous == previous
        previous = entry.hash
    return [entry.hash for entry in entries]


def torn(content: bytes, begin: int, step: int) -> Iterator[bytes]:
    """What may be there of a file whose end from `begin` on was being written when the power failed."""
    for offset in [*range(begin, len(content), step), len(content) - 1]:
        yield content[:offset]
        yield content[:offset] + bytes(len(content) - offset)


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, int, list[str]]:
    """The ledger of a server that was killed, with its write-ahead log; how long that was before the last commit."""
    folder, copy = tmp_path / "run", tmp_path / "copy"
    folder.mkdir()
    copy.mkdir()
    lengths: list[int] = []

    async def scenario() -> None:
        house = House(folder, rounds=ROUNDS)
        parts = [asyncio.create_task(session.take_part()) for session in pulls(house)]
        house.start()
        for round in range(1, ROUNDS + 1):
            await reached(lambda round=round: house.coordinator.head_round >= round)
            assert house.coordinator.head_round == round
            lengths.append((folder / "ledger.sqlite-wal").stat().st_size)
        for end in ("", "-wal"):
            shutil.copy(folder / f"ledger.sqlite{end}", copy)
        await asyncio.gather(*parts)
        await house.stop()

    play(scenario())
    return copy, lengths[-2], hashes(folder / "ledger.sqlite")


def test_a_commit_is_whole_or_absent_wherever_the_log_was_torn(
    killed: tuple[Path, int, list[str]], tmp_path: Path
) -> None:
    copy, begin, chain = killed
    log = (copy / "ledger.sqlite-wal").read_bytes()
    assert begin < len(log)
    found = set()
    for number, content in enumerate(torn(log, begin, 149)):
        path = tmp_path / f"{number}.sqlite"
        shutil.copy(copy / "ledger.sqlite", path)
        Path(f"{path}-wal").write_bytes(content)
        told = hashes(path)
        assert told == chain[: len(told)]
        found.add(len(told))
    assert found == {ROUNDS - 1}  # all before it is there
    path = tmp_path / "whole.sqlite"
    shutil.copy(copy / "ledger.sqlite", path)
    shutil.copy(copy / "ledger.sqlite-wal", f"{path}-wal")
    assert hashes(path) == chain


def test_a_ledger_file_that_was_cut_or_zeroed_is_refused_or_whole_but_never_another_chain(tmp_path: Path) -> None:
    play(completed(tmp_path, rounds=20))
    chain = hashes(tmp_path / "ledger.sqlite")
    content = (tmp_path / "ledger.sqlite").read_bytes()
    refused = 0
    for number, damaged in enumerate(torn(content, 0, 509)):
        path = tmp_path / f"{number}.sqlite"
        path.write_bytes(damaged)
        try:
            told = hashes(path)
        except OstrakonError as error:
            assert "is damaged" in str(error) or "another program" in str(error)
            refused += 1
        else:
            assert told in (chain, [])
            assert told or not damaged
    assert refused


@pytest.mark.parametrize("tear", ["the log is torn", "the log is gone"])
def test_a_lost_commit_that_workers_were_told_of_stops_the_server(tmp_path: Path, tear: str) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=50)
        sessions = pulls(house)
        parts = [asyncio.create_task(session.take_part()) for session in sessions]
        house.start()
        await reached(lambda: house.coordinator.head_round == 4)
        before = (tmp_path / "ledger.sqlite").read_bytes(), (tmp_path / "ledger.sqlite-wal").read_bytes()
        await reached(lambda: all(session.rounds.exchange.head.round >= 5 for session in sessions))
        await house.stop()  # which moves the log into the file, as a killed server does not
        (tmp_path / "ledger.sqlite").write_bytes(before[0])
        if tear == "the log is torn":
            (tmp_path / "ledger.sqlite-wal").write_bytes(before[1])
        if tear == "the log is gone":
            with pytest.raises(OstrakonError, match=r"no run.*ledger was deleted or emptied"):
                House(tmp_path, rounds=50, port=house.port)
        else:
            house = House(tmp_path, rounds=50, port=house.port)
            with pytest.raises(OstrakonError, match="ends with round 4, does not hold: an old copy"):
                await house.start()
            await house.stop()
        await cancel(*parts)

    play(scenario())
