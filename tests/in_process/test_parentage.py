"""A branch: a new run from an old one's last model, which it names as its parent."""

from dataclasses import replace
from pathlib import Path

import pytest

from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.model_file import read_model, write_model
from ostrakon.server.storage.audit import Broken, audit
from ostrakon.server.storage.ledger import Genesis, Parent
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.parentage import branch, metadata_of, parent_of
from tests.harness.house import INITIAL, House, vector
from tests.harness.lost_model import completed, flip, model_file
from tests.harness.scenario import play

LAYOUT = (("weight", (3,)),)


def genesis_of(folder: Path) -> Genesis:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    genesis = ledger.genesis()
    ledger.close()
    assert genesis is not None
    return genesis


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run of three rounds."""
    folder = tmp_path / "old"
    folder.mkdir()
    play(completed(folder))
    return folder


def test_a_new_run_from_an_old_ones_model_names_its_parent(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    parent = branch(old, new / INITIAL)
    report = audit(old)
    assert parent == Parent(report.run, 3, report.head)
    play(completed(new, rounds=2))
    genesis = genesis_of(new)
    assert genesis.parent == parent
    assert genesis.run != parent.run
    assert genesis.theta_0 == digest(read_model(new / INITIAL).theta) == model_file(old, 3).name.partition(".")[0]
    again = audit(new)
    assert again.parent == parent
    assert f"began with round 3 of run {parent.run}, entry {parent.hash}" in str(again)
    play(completed(new, rounds=3))  # and it goes on as any run


def test_an_old_run_of_no_rounds_can_be_begun_anew_too(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    House(old).ledger.close()
    parent = branch(old, tmp_path / INITIAL)
    assert parent == Parent(genesis_of(old).run, 0, genesis_of(old).hash)


def test_a_run_that_begins_from_a_servers_last_model_names_that_run(old: Path, tmp_path: Path) -> None:
    ledger = SqliteLedger(old / "ledger.sqlite")
    genesis, head = ledger.genesis(), ledger.head()
    ledger.close()
    assert genesis is not None and head is not None
    write_model(tmp_path / INITIAL, vector(1.0), LAYOUT, metadata_of(genesis, head))
    House(tmp_path).ledger.close()
    assert genesis_of(tmp_path).parent == Parent(genesis.run, 3, head.hash)


@pytest.mark.parametrize("missing", ["run", "round", "head"])
def test_a_model_file_that_does_not_say_where_it_is_from_names_no_parent(tmp_path: Path, missing: str) -> None:
    metadata = {"task": "pull", "run": "r", "round": "1", "head": "h"}
    del metadata[missing]
    write_model(tmp_path / INITIAL, vector(1.0), LAYOUT, metadata)
    assert parent_of(read_model(tmp_path / INITIAL)) is None


def test_a_round_that_is_no_number_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / INITIAL, vector(1.0), LAYOUT, {"task": "pull", "run": "r", "round": "x", "head": "h"})
    with pytest.raises(OstrakonError, match="names round 'x' of run r"):
        House(tmp_path)


def test_a_broken_run_is_not_begun_anew_from(old: Path, tmp_path: Path) -> None:
    flip(-1)(model_file(old, 3))
    with pytest.raises(Broken, match=r"round 3: model file .* is damaged"):
        branch(old, tmp_path / INITIAL)
    assert not (tmp_path / INITIAL).exists()


def test_a_file_that_is_there_is_not_overwritten(old: Path, tmp_path: Path) -> None:
    (tmp_path / INITIAL).write_text("precious")
    with pytest.raises(OstrakonError, match="exists: give the name of a new file"):
        branch(old, tmp_path / INITIAL)
    assert (tmp_path / INITIAL).read_text() == "precious"


def test_the_genesis_of_a_run_without_a_parent_has_the_hash_it_had_before_there_were_parents() -> None:
    genesis = Genesis("run", {"roster": ["a"], "f": 0}, 3, "theta", "now", LAYOUT)
    text = (
        '{"created":"now","layout":[["weight",[3]]],"parameters":3,"run":"run",'
        '"settings":{"f":0,"roster":["a"]},"theta_0":"theta"}'
    )
    assert genesis.to_json() == text
    assert Genesis.from_json(text) == genesis
    child = replace(genesis, parent=Parent("other", 7, "hash"))
    assert Genesis.from_json(child.to_json()) == child
    assert child.hash != genesis.hash
