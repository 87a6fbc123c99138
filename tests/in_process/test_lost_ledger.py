"""A ledger that is gone begins no second run over the models of the first, and tells nobody of a round it lost."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.common.model_file import write_model
from ostrakon.server.core.metrics import MetricsFile
from ostrakon.server.process import serve
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.initial import Initial
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.lost_ledger import check_ledger_is_there
from ostrakon.server.storage.model_store import ModelStore
from tests.harness.house import INITIAL, House, pulls, server_settings, vector
from tests.harness.lost_model import completed
from tests.harness.scenario import cancel, play, reached, settle


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_ledger(folder: Path) -> None:
    for path in folder.glob("ledger.sqlite*"):
        path.unlink()


def test_a_server_whose_ledger_was_deleted_begins_no_new_run_and_changes_nothing(tmp_path: Path) -> None:
    play(completed(tmp_path))
    without_ledger(tmp_path)
    (tmp_path / "server.lock").touch()
    before = content(tmp_path)
    settings = server_settings(tmp_path).model_copy(update={"listen": "127.0.0.1:0", "device": "cpu"})
    with pytest.raises(
        OstrakonError, match=r"ledger.sqlite holds no run, but .*models holds committed models"
    ) as caught:
        serve(settings)
    assert "backup" in str(caught.value) and "another directory" in str(caught.value)
    after = content(tmp_path)
    assert {name for name in after if name not in before} == set()
    assert {name for name in after if after[name] != before[name]} <= {"server.lock"}


@pytest.mark.parametrize("models", [True, False])
def test_an_emptied_ledger_begins_no_new_run_either(tmp_path: Path, models: bool) -> None:
    play(completed(tmp_path))
    if not models:
        shutil.rmtree(tmp_path / "models")
        metrics = MetricsFile(tmp_path / "metrics.jsonl")
        metrics.record("started", term=1)
        metrics.record("round", round=1)
        metrics.close()
    (tmp_path / "ledger.sqlite").write_bytes(b"")
    before = content(tmp_path / "models")
    with pytest.raises(
        OstrakonError, match="committed models" if models else r"metrics.jsonl tells of committed rounds"
    ):
        House(tmp_path)
    assert content(tmp_path / "models") == before


@pytest.mark.parametrize("emptied", [True, False])
def test_a_log_without_its_ledger_is_a_part_of_a_run(tmp_path: Path, emptied: bool) -> None:
    (tmp_path / "ledger.sqlite-wal").write_bytes(b"something")
    if emptied:
        (tmp_path / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(OstrakonError, match="wal is there"):
        check_ledger_is_there(tmp_path, ModelStore(tmp_path / "models"), Initial(tmp_path / "initial.safetensors"))


def test_a_crash_before_the_genesis_is_no_loss(tmp_path: Path) -> None:
    write_model(tmp_path / INITIAL, vector(0.0), (("weight", (3,)),), {"task": "pull"})
    ModelStore(tmp_path / "models").write(vector(0.0), None)  # and then the power failed
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.record("started", term=1)
    metrics.close()
    play(completed(tmp_path))
    assert audit(tmp_path).rounds == 3


def delete(folder: Path) -> None:
    without_ledger(folder)


def delete_the_log(folder: Path) -> None:
    (folder / "ledger.sqlite-wal").unlink()


def move(folder: Path) -> None:
    for path in folder.glob("ledger.sqlite*"):
        path.rename(f"{path}.moved")


def replace(folder: Path) -> None:
    shutil.copytree(folder, folder / "copy", ignore=shutil.ignore_patterns("models"))
    for path in (folder / "copy").glob("ledger.sqlite*"):
        os.replace(path, folder / path.name)


def put_an_empty_one(folder: Path) -> None:
    without_ledger(folder)
    SqliteLedger(folder / "ledger.sqlite").close()


@pytest.mark.parametrize("change", [delete, delete_the_log, move, replace, put_an_empty_one])
def test_what_is_committed_into_a_ledger_that_is_gone_is_told_to_nobody(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rounds=50)
        sessions = pulls(house)
        parts = [asyncio.create_task(session.take_part()) for session in sessions]
        running = house.start()
        await reached(lambda: house.coordinator.head_round == 3)
        await settle()
        change(tmp_path)
        told = house.coordinator.head_round
        with pytest.raises(OstrakonError, match=rf"ledger.sqlite was deleted, moved or replaced.*round {told + 1} is"):
            await running
        await settle()
        assert max(session.rounds.exchange.head.round for session in sessions) <= told
        files = {path.name for path in tmp_path.iterdir()}
        await house.stop()
        if change is replace:  # the end of this server leaves the files of the other ledger alone
            assert {path.name for path in tmp_path.iterdir()} == files
            other = SqliteLedger(tmp_path / "ledger.sqlite")
            head = other.head()
            other.close()
            assert head is not None and head.round == told
        await cancel(*parts)

    play(scenario())
