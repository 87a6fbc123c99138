"""The command `ostrakon`: what its help teaches, and what it says to what it does not know."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ostrakon.cli.main import run
from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.settings import RunSettings
from ostrakon.experiments.tables.settings import TableSettings
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.testbed.settings import AdversarySettings, WorkerFile
from tests.harness.cluster import importing

COMMANDS = [
    "up",
    "status",
    "down",
    "report",
    "server",
    "worker",
    "evaluate",
    "adversary",
    "init",
    "branch",
    "audit",
    "conformance",
    "rules",
    "partition",
    "experiments",
    "certificates",
]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(words) == 0
    return capsys.readouterr().out


def test_the_help_lists_every_command_and_its_first_line_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--help")
    listed = re.findall(r"^  (\w+) +(.*)$", text.partition("Commands:\n")[2], re.MULTILINE)
    assert [name for name, _ in listed] == COMMANDS
    assert all(first.endswith(".") and not first.endswith("...") for _, first in listed)
    assert "--install-completion" in text and "--show-completion" in text


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(f"certificates {name}" for name in ("init", "issue", "revoke", "list"))]
)
def test_every_help_has_an_example_of_its_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = said(capsys, *command.split(), "--help").partition("Example")[2]
    assert f"  ostrakon {command}" in examples


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("up", RunSettings),
        ("server", ServerSettings),
        ("worker", WorkerFile),
        ("evaluate", WorkerFile),
        ("adversary", AdversarySettings),
        ("experiments", TableSettings),
    ],
)
def test_a_command_that_takes_settings_describes_each(
    command: str, kind: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, command, "--help").partition("Settings")[2].splitlines()
    for name, field in kind.model_fields.items():
        if name != "team":
            word = f"{name.upper()}=" if command in ("up", "experiments") else name
            found = [line for line in lines if line.strip().startswith(word) and field.description in line]
            assert found, name
            assert field.is_required() == found[0].endswith(" (needed)")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("upp", "no such command 'upp'. Did you mean 'up'? (see ostrakon --help)"),
        ("certificates issu", "no such command 'issu'. Did you mean 'issue'? (see ostrakon certificates --help)"),
        ("down --run mine", "no such option: --run (see ostrakon down --help)"),
        ("server", "missing option '--config' (see ostrakon server --help)"),
        ("audit", "missing argument 'DIR' (see ostrakon audit --help)"),
        ("rules --update nowhere", "invalid value for '--update': file 'nowhere' does not exist"),
        ("up COLOUR=red", "unknown setting 'COLOUR'"),
        ("experiments tabel1", "unknown table or figure 'tabel1'; did you mean table1?"),
        ("experiments table1 SEED=5", "unknown setting 'SEED'; did you mean SEEDS?"),
        ("experiments table1 ON=moon", "ostrakon experiments: setting on = 'moon' cannot be used"),
        ("audit nowhere", "nowhere/ledger.sqlite does not exist: give the folder of a run"),
        ("init --config nowhere --output x", "settings file nowhere does not exist: give the path of a TOML file"),
        ("certificates list nowhere", "nowhere holds no authority: run `ostrakon certificates init nowhere`"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(words: str, sentence: str) -> None:
    with pytest.raises(OstrakonError) as refused:
        run(words.split())
    assert str(refused.value).startswith(sentence)


def test_who_holds_what_is_printed_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "who.png"
    text = said(capsys, "partition", "TASK=linear", "WORKERS=3", "--output", str(picture))
    assert text.startswith("Linear: 3 workers, seed 1\n")
    assert re.search(r"^ +2 +200 +10 +\d +\d+ % +500", text, re.MULTILINE)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("words", [[], ["certificates"]])
def test_a_group_alone_shows_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.slow
def test_a_users_error_is_one_line_and_status_2() -> None:
    for words, line in ((["upp"], "error: no such command"), (["server", "--config", "no"], "error: settings file no")):
        command = [sys.executable, "-m", "ostrakon", *words]
        done = subprocess.run(command, env=importing(), capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert done.stderr.startswith(line)
