"""The committed model, lost at the server: found by its digest, on the disk or at a worker, and never another one."""

import asyncio
from pathlib import Path

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.common.model_file import write_model
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.initial import Initial
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelStore
from ostrakon.server.storage.run import open_run
from tests.harness.house import INITIAL, D, House, Searching, pulls, server_settings, vector
from tests.harness.lost_model import DAMAGES, IN_THE_SUM, IN_THETA, committed, completed, cut, flip, model_file, winners
from tests.harness.scenario import cancel, play, reached


@pytest.mark.parametrize("rule", ["Mean2P", "Mean1P"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("round", [1, 3])
def test_a_lost_model_comes_back_from_the_workers_and_the_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, rule: str, damage: str, round: int
) -> None:
    async def scenario() -> None:
        port, _, parts = await committed(tmp_path / "run", round, rule=rule)
        DAMAGES[damage](model_file(tmp_path / "run", round))
        searching = Searching(tmp_path / "run", port=port, rule=rule)
        house = await searching.find(rule=rule, rounds=5)
        assert await house.start() == "completed"
        assert await asyncio.gather(*parts) == ["completed"] * 3
        await house.stop()
        (tmp_path / "calm").mkdir()
        await completed(tmp_path / "calm", rule=rule, rounds=5)

    play(scenario())
    assert audit(tmp_path / "run").rounds == 5
    assert winners(tmp_path / "run") == winners(tmp_path / "calm")


def test_a_damaged_sum_is_made_again_without_any_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        await completed(tmp_path)
        file = model_file(tmp_path, 3)
        whole = file.read_bytes()
        flip(IN_THE_SUM)(file)
        await House(tmp_path).stop()
        assert file.read_bytes() == whole

    play(scenario())


def test_the_last_model_is_looked_for_on_the_disk_before_anybody_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        await house.run(*pulls(house))
        write_model(tmp_path / "last.safetensors", house.coordinator.chain.theta, (("weight", (D,)),), {})
        await house.stop()
        file = model_file(tmp_path, 3)
        whole = file.read_bytes()
        file.unlink()
        await House(tmp_path).stop()
        assert file.read_bytes() == whole
        # Another model under that name is not taken for it.
        file.unlink()
        write_model(tmp_path / "last.safetensors", house.coordinator.chain.theta + 1, (("weight", (D,)),), {})
        Searching(tmp_path)

    play(scenario())


def test_theta_0_is_written_again_from_the_initial_model_or_from_a_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        session = pulls(house)[0]
        part = asyncio.create_task(session.take_part())
        house.start()
        await reached(lambda: session.rounds.exchange.held)
        await house.stop()
        file = model_file(tmp_path, 0)
        whole = file.read_bytes()
        cut(file)
        await House(tmp_path).stop()
        assert file.read_bytes() == whole
        cut(file)
        (tmp_path / INITIAL).rename(tmp_path / "elsewhere")
        searching = Searching(tmp_path, port=house.port)
        searching.lost.found(await searching.calls.theta())
        assert file.read_bytes() == whole
        await cancel(part)

    play(scenario())


def test_where_the_model_before_is_lost_too_a_sentence_names_both_and_nothing_is_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        await completed(tmp_path)

    play(scenario())
    last, before = model_file(tmp_path, 3), model_file(tmp_path, 2)
    last.unlink()
    flip(IN_THE_SUM)(before)
    content = before.read_bytes()
    with pytest.raises(OstrakonError) as caught:
        House(tmp_path)
    assert all(part in str(caught.value) for part in (last.name, before.name, "backup"))
    assert [path.name for path in (tmp_path / "models").iterdir()] == [before.name]
    assert before.read_bytes() == content


def test_where_one_model_is_kept_its_sum_has_to_be_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        port, _, parts = await committed(tmp_path, 3, keep_models=1)
        file = model_file(tmp_path, 3)
        whole = file.read_bytes()
        flip(IN_THETA)(file)
        searching = Searching(tmp_path, port=port, keep_models=1)
        searching.lost.found(await searching.calls.theta())
        assert file.read_bytes() == whole
        cut(file)
        with pytest.raises(OstrakonError, match="sum of all models so far is lost"):
            House(tmp_path, keep_models=1)
        await cancel(*parts)

    play(scenario())


def test_after_the_first_round_no_other_file_is_needed(tmp_path: Path) -> None:
    async def scenario() -> None:
        port, _, parts = await committed(tmp_path, 1)
        file = model_file(tmp_path, 1)
        whole = file.read_bytes()
        file.unlink()
        model_file(tmp_path, 0).unlink()
        searching = Searching(tmp_path, port=port)
        searching.lost.found(await searching.calls.theta())
        assert file.read_bytes() == whole
        await cancel(*parts)

    play(scenario())


def test_a_model_with_another_digest_is_never_written(tmp_path: Path) -> None:
    play(completed(tmp_path))
    file = model_file(tmp_path, 3)
    file.unlink()
    with pytest.raises(OstrakonError, match=file.name):
        Searching(tmp_path).lost.found(vector(1.0, 2.0, 3.0))
    assert not file.exists()


def test_the_models_that_are_kept_are_those_of_the_last_rounds_over_a_restart_too(tmp_path: Path) -> None:
    play(completed(tmp_path))
    ledger, store = SqliteLedger(tmp_path / "ledger.sqlite"), ModelStore(tmp_path / "models")
    run = open_run(server_settings(tmp_path), Initial(tmp_path / INITIAL), ledger, store)
    ledger.close()
    assert [store.path(key) for key in run.kept] == [model_file(tmp_path, 2), model_file(tmp_path, 3)]
    store.prune(run.kept)

    async def prolonged() -> None:
        house = House(tmp_path, rounds=4)
        await house.run(*pulls(house))
        await house.stop()

    play(prolonged())
    kept = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert kept == sorted(model_file(tmp_path, round).name for round in (3, 4))
