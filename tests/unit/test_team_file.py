"""A file of settings for `ostrakon up`, and the team of liars that it may name."""

from pathlib import Path

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.common.settings import read
from ostrakon.deploy import run_folder
from ostrakon.deploy.launch_settings import check_parts, new_run, parse, resumed_run, run_name
from ostrakon.deploy.run_folder import RunFolder, collusion
from ostrakon.worker.testbed.settings import AdversarySettings, WorkerFile

TEAM = """
workers = 11
f = 5
rounds = 7
[[team]]
count = 3
attack = "SF"
[[team]]
fault = "silent"
[[team]]
byzantine_vote = "pivotal"
"""


@pytest.fixture
def team_file(tmp_path: Path) -> Path:
    path = tmp_path / "team.toml"
    path.write_text(TEAM)
    return path


def test_a_file_of_settings_can_name_a_mixed_team_and_words_override_it(
    team_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    folder = RunFolder("trial")
    given = parse([f"SETTINGS={team_file}", "ROUNDS=9"])
    assert run_name(given) == "settings-team"
    settings = new_run(given)
    assert (settings.workers, settings.rounds, settings.byzantine) == (11, 9, 5)
    assert settings.against() == "a mixed team"
    folder.path.mkdir(parents=True)
    folder.write_settings(settings)
    folder.write_certificates(settings, collusion(settings))
    folder.write_processes(settings, collusion(settings))
    assert folder.read_settings() == settings
    workers = [read(WorkerFile, folder.worker(f"w{i:02}")) for i in range(11)]
    assert [worker.attack for worker in workers[:4]] == ["SF", "SF", "SF", None]
    assert workers[3].fault == "silent"
    assert [worker.byzantine_vote for worker in workers[2:6]] == ["larger-loss", "honest", "pivotal", "honest"]
    adversary = read(AdversarySettings, folder.adversary)
    assert (adversary.corrupted, adversary.voters) == ((), ("w04",))
    assert adversary.honest == tuple(f"w{i:02}" for i in range(5, 11))
    assert workers[4].adversary == adversary.listen
    assert {worker.tap for worker in workers[:5]} == {None}
    assert {worker.tap for worker in workers[5:]} == {adversary.listen}
    assert {worker.adversary for worker in (*workers[:4], *workers[5:])} == {None}


def test_a_file_of_settings_is_read_once(team_file: Path) -> None:
    asked = parse([f"SETTINGS={team_file}"])
    assert run_name(asked) == "settings-team"
    assert asked.filed["workers"] == 11
    team_file.unlink()
    assert new_run(asked).workers == 11


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[team]]\nattack = "SF"\n[[team]]\ncuont = 2', "unknown setting 'team.1.cuont'; did you mean count"),
        ('attack = "SF"\n[[team]]\ncount = 2', "attack = 'SF' beside a team"),
        ("byzantine = 3\n[[team]]\ncount = 2", "byzantine=3, but the team has others"),
        ("[[team]]\ncount = 11", "at most all of them can lie"),
        ("[[team]]\ncount = -5", "team.0.count = -5"),
        ('team = ["SF"]', "team.0"),
        ("team = [1]", "team.0"),
        ("team = 3", "team = 3"),
        ("team = true", "team = True"),
        ("[[team", "damaged"),
        ("rounds = 0", "rounds = 0"),
        ('tls = "server.pem"', r"unknown setting 'tls' \(known: attack, batch"),
    ],
)
def test_a_file_of_settings_that_cannot_be_used_is_named(team_file: Path, text: str, said: str) -> None:
    team_file.write_text(text)
    with pytest.raises(OstrakonError, match=said) as refusal:
        new_run(parse([f"SETTINGS={team_file}"]))
    assert str(team_file) in str(refusal.value)


def test_a_team_with_an_unknown_attack_or_fault_is_refused(team_file: Path) -> None:
    for line in ('attack = "Onm"', 'fault = "slient"'):
        team_file.write_text(f"[[team]]\n{line}")
        with pytest.raises(OstrakonError, match="did you mean"):
            check_parts(new_run(parse([f"SETTINGS={team_file}"])))


def test_a_run_goes_on_with_its_team_and_with_no_other(team_file: Path) -> None:
    given = parse([f"SETTINGS={team_file}"])
    stored = new_run(given)
    assert resumed_run(stored, given) == stored
    assert resumed_run(stored, parse([])) == stored
    team_file.write_text(TEAM.replace("count = 3", "count = 2"))
    given = parse([f"SETTINGS={team_file}"])
    with pytest.raises(OstrakonError, match="another team"):
        resumed_run(stored, given)
    with pytest.raises(OstrakonError, match=r"was started with WORKERS=10, .*team.toml says 11: leave SETTINGS out"):
        resumed_run(new_run(parse([])), given)
