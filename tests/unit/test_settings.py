"""No setting can be a number that nothing can work with, an id that no certificate can hold, or a file of bytes."""

import codecs
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity, parse
from ostrakon.common.ids import check_id
from ostrakon.common.setting_types import MOST_WORKERS, Settings
from ostrakon.common.settings import build, passed_on, read
from ostrakon.deploy.launch_settings import new_run
from ostrakon.deploy.launch_settings import parse as parse_words
from ostrakon.deploy.settings import Liars, RunSettings
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.testbed.settings import AdversarySettings, Byzantine, WorkerFile

KINDS = (ServerSettings, WorkerFile, AdversarySettings, RunSettings, Liars)
SERVER = {"task": "t", "roster": ["a", "b", "c"], "f": 1, "gamma": 0.5, "rounds": 1, "directory": ".", "initial": "i"}


def fields(kind: type[Any]) -> Iterator[tuple[type[Settings], str]]:
    """Every setting whose type, or a part of it, is `kind`."""
    for settings in KINDS:
        for name, field in settings.model_fields.items():
            union = get_origin(field.annotation) in (Union, types.UnionType)
            if kind in (get_args(field.annotation) if union else (field.annotation,)):
                yield settings, name


@pytest.mark.parametrize("kind", [ServerSettings, WorkerFile, AdversarySettings])
def test_what_a_run_passes_on_is_what_its_processes_take(kind: type[Settings]) -> None:
    shared = (RunSettings.model_fields.keys() & kind.model_fields.keys()) - Byzantine.model_fields.keys()
    for name in shared:
        offered, taken = RunSettings.model_fields[name], kind.model_fields[name]
        assert (offered.annotation, offered.metadata) == (taken.annotation, taken.metadata), name
    run = RunSettings()
    own = {"roster": ["a", "b", "c"], "f": 1, "directory": ".", "initial": "i"} if kind is ServerSettings else {}
    passed = passed_on(kind, run, **own)
    assert all(getattr(passed, name) == own.get(name, getattr(run, name)) for name in shared)


def refused(kind: type[Settings], name: str, value: object) -> str:
    """The sentence with which a value is refused."""
    with pytest.raises(OstrakonError) as refusal:
        build(kind, (SERVER if kind is ServerSettings else {}) | {name: value}, source="here")
    sentence = str(refusal.value)
    assert sentence.startswith(f"here: setting {name} = "), sentence
    assert len(sentence) < 600
    return sentence


@pytest.mark.parametrize(("kind", "name"), list(fields(float)))
def test_a_setting_that_is_a_real_number_is_finite(kind: type[Settings], name: str) -> None:
    for value in (float("inf"), float("-inf"), float("nan"), "inf", "nan", "1e400", 10**400):
        refused(kind, name, value)
    if name not in ("beta", "grace", "upload_rate", "gamma", "weight_decay"):
        assert "less than or equal to 1000000000" in refused(kind, name, 1e300)


@pytest.mark.parametrize(("kind", "name"), list(fields(int)))
def test_a_setting_that_is_a_count_has_an_end(kind: type[Settings], name: str) -> None:
    for value in (99999999999999999999999, "99999999999999999999999", 2**63, -1, float("inf"), "nan", 16**4000):
        refused(kind, name, value)


@pytest.mark.parametrize("word", ["GAMMA=1e39", "GAMMA=1e300", "GAMMA=1e-60", "GAMMA=inf", "GAMMA=1e400", "GAMMA=-1"])
def test_a_learning_rate_is_one_that_float32_can_hold(word: str) -> None:
    with pytest.raises(OstrakonError, match="gamma = "):
        new_run(parse_words([word]))
    assert new_run(parse_words(["GAMMA=3e38"])).gamma == 3e38


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "nan", "1e400", 10**400, True, [0.5], "0.5@5", "none"])
def test_what_is_no_learning_rate_is_refused_in_every_setting_of_one(value: object) -> None:
    for kind in (ServerSettings, RunSettings):
        refused(kind, "gamma", value)


def test_a_weight_decay_leaves_something_of_a_model() -> None:
    with pytest.raises(OstrakonError, match=r"weight_decay = 0.5 at gamma = 2.0 leaves nothing of a model"):
        new_run(parse_words(["GAMMA=0.1,2*warmup(10)@50", "WEIGHT_DECAY=0.5"]))
    assert new_run(parse_words(["GAMMA=0.1,2*warmup(10)@50", "WEIGHT_DECAY=0.4"])).weight_decay == 0.4


def test_seeds_are_those_that_random_numbers_can_be_made_of() -> None:
    for kind, name in fields(int):
        if name == "seed":
            refused(kind, name, -1)
            refused(kind, name, 2**32)
            assert build(kind, {name: 2**32 - 1}, source="here").model_dump()[name] == 2**32 - 1


def test_a_roster_has_an_end() -> None:
    assert str(MOST_WORKERS) in refused(RunSettings, "workers", 100_000_000)
    assert str(MOST_WORKERS) in refused(ServerSettings, "roster", [f"w{i}" for i in range(MOST_WORKERS + 1)])
    refused(ServerSettings, "roster", [])


IDS = ("Zürich", "a b", "", 65 * "a", "w01\n", "-w", "../w", "w\0", "\udcff", "w/1", "w:1")


@pytest.mark.parametrize("id", IDS)
def test_an_id_that_no_certificate_can_hold_is_refused_where_it_is_read(id: str) -> None:
    with pytest.raises(OstrakonError):
        parse(Identity("worker", id).urn)
    with pytest.raises(ValueError, match="no certificate"):
        check_id(id)
    with pytest.raises(OstrakonError, match=r"setting roster.1 = .* can stand in no certificate: expected up to 64"):
        build(ServerSettings, SERVER | {"roster": ["a", id, "c"]}, source="here")
    for name in ("honest", "corrupted", "voters"):
        with pytest.raises(OstrakonError, match=f"setting {name}.0"):
            build(AdversarySettings, {name: [id]}, source="here")
    refused(WorkerFile, "id", id)


@pytest.mark.parametrize("text", ["x\0", "x\udcff"])
def test_a_text_of_bytes_that_stand_for_nothing_is_refused(text: str) -> None:
    for kind, name in ((ServerSettings, "directory"), (WorkerFile, "data"), (RunSettings, "task")):
        refused(kind, name, text)


TEXT = 'task = "linear"\nserver = "127.0.0.1:7433"\n'


WINDOWS = TEXT.replace("\n", "\r\n")


@pytest.mark.parametrize("content", [TEXT.encode("utf-8-sig"), WINDOWS.encode(), codecs.BOM_UTF8 + WINDOWS.encode()])
def test_a_file_is_read_as_editors_write_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "worker.toml"
    path.write_bytes(content)
    assert read(WorkerFile, path).task == "linear"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TEXT.encode("utf-16"), "is written in UTF-16: expected UTF-8"),
        (TEXT.encode("utf-16-le"), "is written in UTF-16 or UTF-32: expected UTF-8"),
        (TEXT.encode("utf-32"), "is written in UTF-32: expected UTF-8"),
        ("# Z\u00fcrich\n".encode("latin-1"), r"is written in Latin-1 or the like \(byte 0xfc in line 1\)"),
        (b"rounds = " + 5000 * b"9", "is damaged: expected TOML"),
        (b"task = " + 5000 * b"[", "is damaged: expected TOML"),
    ],
)
def test_a_file_in_another_encoding_is_told_so(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "worker.toml"
    path.write_bytes(content)
    with pytest.raises(OstrakonError, match=said):
        read(WorkerFile, path)


def test_a_path_that_leads_nowhere_is_told_so(tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(tmp_path / "nowhere")
    for path, said in (
        (link, "is a link to nowhere"),
        (tmp_path / "none.toml", "does not exist"),
        (tmp_path, "cannot be read"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("a\0b"), "null byte"),
    ):
        with pytest.raises(OstrakonError, match=said):
            read(WorkerFile, path)
