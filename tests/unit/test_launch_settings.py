"""What `ostrakon up` accepts, what it says to the rest, and what a run's folder holds before anything starts."""

import os
from pathlib import Path

import pytest

from ostrakon.common.errors import OstrakonError, file_trouble
from ostrakon.common.settings import build, read
from ostrakon.deploy import run_folder
from ostrakon.deploy.launch_settings import check_parts, described, new_run, parse, resumed_run, run_name
from ostrakon.deploy.processes import Child
from ostrakon.deploy.run_folder import RunFolder, collusion
from ostrakon.deploy.settings import RunSettings
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.testbed.settings import WorkerFile

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    return RunFolder("trial")


def test_keys_are_read_in_any_letter_case() -> None:
    given = parse(["WORKERS=7", "byzantine=2", "Attack=SF(scale=10)", "f=3"])
    settings = new_run(given)
    assert (settings.workers, settings.byzantine, settings.f, settings.attack) == (7, 2, 3, "SF(scale=10)")
    assert settings.rule == RunSettings().rule


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ROUND=3"], "did you mean ROUNDS"),
        (["COLOUR=red"], "known: RUN, WORKERS"),
        (["verbose"], "write KEY=VALUE"),
        (["F=1", "f=2"], "F is given twice"),
        (["RULE="], "RULE has no value"),
    ],
)
def test_words_that_are_no_settings_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(OstrakonError, match=said):
        parse(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ROUNDS=many"], "rounds = 'many'"),
        (["F=5"], "f must be below n/2, so at most 4"),
        (["BYZANTINE=11"], "at most all of them"),
        (["RUN=../elsewhere"], "run = '../elsewhere'"),
        (["RUN=/etc"], "run = '/etc'"),
    ],
)
def test_values_that_cannot_be_used_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(OstrakonError, match=said):
        new_run(parse(words))


@pytest.mark.parametrize("word", ["RULE=Men2P", "ATTACK=Gaus"])
def test_unknown_names_are_refused_with_the_nearest(word: str) -> None:
    with pytest.raises(OstrakonError, match="did you mean"):
        check_parts(new_run(parse([word])))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ATTACK=PGA(steps=140)"], "cannot search a grid"),
        (["ATTACK=PGA(ratio=1)"], "ratio above 1"),
        (["ATTACK=SF@0,SF(scale=3e38)@5"], "float32 cannot hold"),
        (["ATTACK=Omn", "BYZANTINE=10"], "needs the vectors of honest workers"),
        (["ATTACK=ALIE", "BYZANTINE=9"], "finds no z"),
        (["ATTACK=Onm", "BYZANTINE=0"], "did you mean Omn"),
        (["FAULT=slient", "BYZANTINE=0"], "did you mean silent"),
    ],
)
def test_an_attack_that_cannot_be_mounted_is_refused_before_anything_starts(words: list[str], said: str) -> None:
    with pytest.raises(OstrakonError, match=said):
        check_parts(new_run(parse(words)))


def test_what_is_none_at_all_times_is_no_lie() -> None:
    settings = new_run(parse(["ATTACK=none@0,none@9"]))
    assert settings.byzantine_vote == "honest"
    assert settings.against() == ""


def test_the_defaults_are_names_that_exist() -> None:
    check_parts(new_run(parse([])))


def test_every_setting_is_described() -> None:
    for name, field in RunSettings.model_fields.items():
        if name != "team":
            assert f"{name.upper()}=" in described()
            assert str(field.description) in described()
    assert "SETTINGS=" in described()


def test_a_resume_refuses_a_difference_and_names_both_values() -> None:
    stored = new_run(parse(["RULE=Mean1P", "SEED=3"]))
    with pytest.raises(OstrakonError, match="RULE=Mean1P, now RULE=Avg"):
        resumed_run(stored, parse(["RULE=Avg"]))
    with pytest.raises(OstrakonError, match="SEED=3, now SEED=4"):
        resumed_run(stored, parse(["SEED=4"]))


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("partition=dirichlet(alpha=0.1),seed=3", {"partition": "dirichlet(alpha=0.1)", "seed": 3}),
        ("partition='by_writer', big=true, small=False", {"partition": "by_writer", "big": True, "small": False}),
        ("rate=-1e-3,mode=by-name", {"rate": -0.001, "mode": "by-name"}),
    ],
)
def test_options_are_one_word_and_reach_every_process_that_makes_the_task(
    folder: RunFolder, word: str, options: dict[str, object]
) -> None:
    settings = new_run(parse(["RUN=trial", f"OPTIONS={word}"]))
    folder.write_settings(settings)
    folder.write_certificates(settings, None)
    folder.write_processes(settings, None)
    workers = [read(WorkerFile, folder.worker(id)) for id in ("w00", "w09")]
    built = {each.built_for for each in (*workers, read(WorkerFile, folder.evaluator))}
    assert folder.read_settings().options == options
    assert {repr(each.options) for each in workers} == {repr(settings.options)}
    assert built == {read(ServerSettings, folder.server).learns}
    assert built != {"glyphs"}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("uniform", "write OPTIONS=NAME=VALUE"),
        ("=1", "write OPTIONS=NAME=VALUE"),
        ("a=1)(b=2", "write OPTIONS=NAME=VALUE"),
        ("a=1,a=2", "write OPTIONS=NAME=VALUE"),
        ("a=[1]", "a is a list"),
        ("a=None", "a is a NoneType"),
        ("a=1e999", "a is inf"),
        ("a=" + "9" * 30, "a is greater"),
    ],
)
def test_options_that_cannot_be_used_are_a_sentence(word: str, said: str) -> None:
    with pytest.raises(OstrakonError, match=said):
        new_run(parse([f"OPTIONS={word}"]))


def test_a_file_has_options_as_a_table_and_a_word_takes_their_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('task = "femnist"\n[options]\npartition = "by_shards"\n')
    assert new_run(parse([f"SETTINGS={file}"])).options == {"partition": "by_shards"}
    assert new_run(parse([f"SETTINGS={file}", "OPTIONS=partition=uniform"])).options == {"partition": "uniform"}
    file.write_text('options = "uniform"\n')
    with pytest.raises(OstrakonError, match="setting options = 'uniform' cannot be used: input should be a valid dict"):
        new_run(parse([f"SETTINGS={file}"]))


def test_a_resume_refuses_other_options() -> None:
    stored = new_run(parse(["TASK=femnist", "OPTIONS=partition=dirichlet(alpha=1.0)"]))
    assert resumed_run(stored, parse(["OPTIONS=partition=dirichlet(alpha=1.0)"])) == stored
    with pytest.raises(OstrakonError, match=r"OPTIONS=partition=dirichlet\(alpha=1.0\), now OPTIONS=partition=uniform"):
        resumed_run(stored, parse(["OPTIONS=partition=uniform"]))
    with pytest.raises(OstrakonError, match="OPTIONS=None, now OPTIONS=partition=uniform"):
        resumed_run(new_run(parse([])), parse(["OPTIONS=partition=uniform"]))


def test_a_resume_needs_nothing_repeated_and_accepts_what_is_the_same() -> None:
    stored = new_run(parse(["RULE=Mean1P", "GAMMA=0.5"]))
    assert resumed_run(stored, parse([])) == stored
    assert resumed_run(stored, parse(["GAMMA=0.50", "RULE=Mean1P"])) == stored


def test_a_resume_may_have_more_rounds_another_port_and_another_device() -> None:
    stored = new_run(parse(["ROUNDS=10"]))
    resumed = resumed_run(stored, parse(["ROUNDS=20", "PORT=7000", "DEVICE=cpu"]))
    assert (resumed.rounds, resumed.port, resumed.device) == (20, 7000, "cpu")
    with pytest.raises(OstrakonError, match="rounds may only grow"):
        resumed_run(stored, parse(["ROUNDS=9"]))


def test_the_first_workers_lie_and_every_process_has_its_own_certificate(folder: RunFolder) -> None:
    settings = new_run(parse(["RUN=trial", "WORKERS=3", "BYZANTINE=2", "F=1", "ATTACK=Gauss", "PORT=7100"]))
    folder.write_settings(settings)
    folder.write_certificates(settings, collusion(settings))
    folder.write_processes(settings, collusion(settings))
    server = read(ServerSettings, folder.server)
    workers = [read(WorkerFile, folder.worker(id)) for id in server.roster]
    evaluator = read(WorkerFile, folder.evaluator)
    assert folder.read_settings() == settings
    assert server.roster == ("w00", "w01", "w02")
    assert [worker.attack for worker in workers] == ["Gauss", "Gauss", None]
    assert {worker.server for worker in workers} == {evaluator.server} == {server.listen} == {"127.0.0.1:7100"}
    held = [server.tls, evaluator.tls, *(worker.tls for worker in workers)]
    assert all(tls is not None and tls.certificate.exists() and tls.key.exists() for tls in held)
    assert len({tls.certificate for tls in held if tls is not None}) == len(held)
    assert evaluator.output == folder.path


def test_settings_that_are_damaged_are_a_sentence(folder: RunFolder) -> None:
    folder.write_settings(new_run(parse(["RUN=trial"])))
    folder.settings.write_text("run = 'trial'\nrounds = [")
    with pytest.raises(OstrakonError, match="damaged"):
        folder.read_settings()


def test_a_run_has_one_launcher_and_the_second_is_told_which(folder: RunFolder) -> None:
    assert folder.holder() is None
    with folder.held():
        assert folder.holder() == os.getpid()
        with pytest.raises(OstrakonError, match=f"running already \\(process {os.getpid()}\\)"), folder.held():
            pass
    assert folder.holder() is None


def test_without_a_name_the_words_name_the_run_and_find_it_again() -> None:
    assert run_name(parse([])) == "default"
    assert new_run(parse(["RULE=Avg", "ATTACK=SF(scale=10)", "ROUNDS=9"])).run == "attack-SF-scale-10_rule-Avg"
    assert run_name(parse(["attack=SF(scale=10)", "RULE=Avg", "PORT=7000"])) == "attack-SF-scale-10_rule-Avg"
    assert run_name(parse(["DATA=somewhere/some.npz", "TASK=femnist"])) == "data-some.npz_task-femnist"
    assert run_name(parse(["RUN=mine", "RULE=Avg"])) == "mine"


def test_a_name_too_long_for_a_folder_is_cut_and_still_names_one_run() -> None:
    words = [f"RULE={'x' * 300}", f"DATA={'y' * 250}", "TASK=femnist"]
    name = run_name(parse(words))
    assert len(name) < 140
    assert build(RunSettings, {"run": name}, source="here").run == name
    assert run_name(parse(words[::-1])) == name
    assert run_name(parse([*words, "SEED=2"])) != name
    with pytest.raises(OstrakonError, match="run = 'x"):
        run_name(parse([f"RUN={'x' * 300}"]))


def test_data_may_have_been_moved_but_not_exchanged(tmp_path: Path) -> None:
    was, now = tmp_path / "was.npz", tmp_path / "now.npz"
    was.touch()
    stored = new_run(parse([f"DATA={was}", "RUN=one"]))
    with pytest.raises(OstrakonError, match="was started with DATA="):
        resumed_run(stored, parse([f"DATA={now}"]))
    was.rename(now)
    assert resumed_run(stored, parse([f"DATA={now}"])).data == now


@pytest.mark.parametrize("word", ["DATA=~nobody-of-this-name/x", "SETTINGS=~nobody-of-this-name/x", "DATA=loop"])
def test_a_path_that_leads_nowhere_is_named(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(OstrakonError, match="leads nowhere"):
        new_run(parse([word]))
    with pytest.raises(OstrakonError, match="too long a path"):
        new_run(parse([f"DATA={'x/' * 3000}"]))


def test_a_folder_too_deep_for_a_ledger_or_of_no_letters_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 100))
    with pytest.raises(OstrakonError, match="too long a path for a run"):
        RunFolder("trial")
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "\udcff")
    with pytest.raises(OstrakonError, match="is no UTF-8"):
        RunFolder("trial")


def in_the_way(path: Path, what: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "file":
        path.touch()
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if what == "loop" else path / "nowhere")


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (".", "file"),
        ("..", "file"),
        (".", "nowhere"),
        ("..", "loop"),
        ("settings.toml", "folder"),
        ("settings.toml", "nowhere"),
        ("launcher.lock", "folder"),
        ("processes.lock", "folder"),
        ("certificates", "file"),
        ("certificates/ca.pem", "folder"),
        ("certificates/worker-w00.pem", "folder"),
        ("certificates/revoked.txt", "folder"),
        ("workers", "nowhere"),
        ("evaluator.toml", "folder"),
        ("logs", "file"),
        ("logs/w00.log", "folder"),
    ],
)
def test_what_is_in_the_way_of_a_run_is_a_sentence_with_its_path(folder: RunFolder, place: str, what: str) -> None:
    path = folder.path.parent if place == ".." else folder.path / place
    in_the_way(path, what)
    settings = new_run(parse(["RUN=trial", "WORKERS=3", "BYZANTINE=0", "F=1"]))

    def prepare() -> None:
        if folder.exists():
            folder.read_settings()
        with folder.held():
            folder.await_orphans(1)
            folder.write_settings(settings)
            folder.write_certificates(settings, collusion(settings))
            folder.write_processes(settings, collusion(settings))
            Child("w00", "ostrakon.no_such_module", folder.worker("w00"), folder.log("w00"), folder.path).start()

    try:
        prepare()
        raise AssertionError("nothing was refused")
    except OstrakonError as error:
        sentence = str(error)
    except OSError as error:
        sentence = file_trouble(error) or ""
    assert str(path) in sentence


def test_a_machine_that_only_fails_is_honest_otherwise() -> None:
    failing = new_run(parse(["FAULT=silent@2"])).liars()
    assert {(each.attack, each.byzantine_vote, each.fault) for each in failing} == {("none", "honest", "silent@2")}
    lying = new_run(parse(["FAULT=zeros", "ATTACK=SF"])).liars()
    assert {(each.attack, each.byzantine_vote, each.fault) for each in lying} == {("SF", "larger-loss", "zeros")}


def test_nobody_is_tapped_where_nobody_colludes(folder: RunFolder) -> None:
    settings = new_run(parse(["ATTACK=SF"]))
    folder.path.mkdir(parents=True)
    folder.write_certificates(settings, collusion(settings))
    folder.write_processes(settings, collusion(settings))
    assert not folder.adversary.exists()
    assert {read(WorkerFile, folder.worker(f"w{i:02}")).tap for i in range(10)} == {None}
