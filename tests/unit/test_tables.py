"""Tables and figures: what they are made of, how they go on, what is kept and what is shown."""

import csv
import io
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from ostrakon.cli.main import run as command
from ostrakon.common.errors import OstrakonError
from ostrakon.common.markdown import renew
from ostrakon.common.tasks.contract import Examples
from ostrakon.experiments import experiment
from ostrakon.experiments import run as run_alone
from ostrakon.experiments.tables import logs, runner
from ostrakon.experiments.tables.computing import Group, compute
from ostrakon.experiments.tables.figure1 import draw
from ostrakon.experiments.tables.output import Output, output, output_of_figure1
from ostrakon.experiments.tables.paper import Known, paper
from ostrakon.experiments.tables.plan import Cell, Plan
from ostrakon.experiments.tables.plans import ATTACKS, FIGURE1, PLANS, RULES, plan
from ostrakon.experiments.tables.pool import in_processes
from ostrakon.experiments.tables.settings import TableSettings, table_settings
from ostrakon.experiments.tables.store import Record, Store
from ostrakon.experiments.tables.summary import fill
from tests.harness.cluster import ROOT
from tests.unit.small_task import SmallTask

TWO = ("ATTACKS=SF;Omn", "SEEDS=2")


class Moody(SmallTask):
    """Worker 3 cannot read its data as long as there is a file `broken`; with one `deadly` its process ends."""

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        assert self.data is not None
        if worker == 3 and seed == 2 and (self.data.parent / "broken").exists():
            raise ValueError("no such drawer")
        if worker == 3 and seed == 2 and (self.data.parent / "deadly").exists():
            os._exit(3)
        return super().worker_data(worker, workers, seed)


def chosen(folder: Path, *words: str) -> TableSettings:
    data = folder / "data"
    if not data.exists():
        data.write_text("drawers")
    given = {"TASK": "tests.unit.test_tables:Moody", "DATA": str(data), "WORKERS": "5", "ROUNDS": "3", "JOBS": "1"}
    given |= {"RESULTS": str(folder), "RULES": "Avg;Mean2P"} | dict(word.split("=", 1) for word in words)
    return table_settings([f"{name}={value}" for name, value in given.items()])


def computed(made: Plan, settings: TableSettings, **more: Any) -> list[str]:
    """Run what is not known yet; returns what was."""
    store = Store(settings.results / "runs")
    done: list[str] = []
    runs = runner.wanted(made, settings.seeds, store)
    runner.run(runs, settings, store, finished=lambda one, record: done.append(str(one)), **more)
    return done


def shown(made: Plan, settings: TableSettings) -> Output:
    return output(made, fill(made, settings.seeds, Store(settings.results / "runs")), settings.seeds)


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_an_interrupted_table_goes_on_where_it_was_and_comes_out_as_one_that_was_not(tmp_path: Path) -> None:
    settings = chosen(tmp_path, *TWO)
    made = plan("table1", settings)
    store = Store(settings.results / "runs")

    def interrupt(one: runner.Wanted, record: Record) -> None:
        if len(list(store._folder.iterdir())) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(runner.wanted(made, 2, store), settings, store, finished=interrupt)
    kept = {file.name: file.read_bytes() for file in store._folder.iterdir()}
    assert len(kept) == 3
    assert "5 of 8 runs are not computed yet" in shown(made, settings).markdown
    assert len(computed(made, settings)) == 5
    assert computed(made, settings) == []
    assert {name: (store._folder / name).read_bytes() for name in kept} == kept
    whole = chosen(tmp_path, *TWO).model_copy(update={"results": tmp_path / "whole"})
    assert len(computed(made, whole)) == 8
    assert shown(made, whole) == shown(made, settings)


@pytest.mark.slow
def test_a_run_that_fails_is_marked_and_tried_again_while_the_others_stand(tmp_path: Path) -> None:
    settings = chosen(tmp_path, *TWO)
    made = plan("table1", settings)
    (tmp_path / "broken").touch()
    assert len(computed(made, settings)) == 8
    (first, *_) = fill(made, 2, Store(tmp_path / "runs"))
    assert (len(first.records), len(first.errors), first.missing) == (1, 1, 0)
    assert "worker_data" in first.errors[0] and "no such drawer" in first.errors[0]
    text = shown(made, settings).markdown
    assert "4 runs failed: " in text and "(1 failed)" in text
    (tmp_path / "broken").unlink()
    again = computed(made, settings)
    assert len(again) == 4 and all(one.endswith("seed 2") for one in again)
    assert "failed" not in shown(made, settings).markdown


def test_of_runs_side_by_side_the_one_that_fails_is_found(tmp_path: Path) -> None:
    settings = chosen(tmp_path)
    (tmp_path / "broken").touch()
    cell = plan("table1", settings).cells[0]
    told: list[int] = []
    records = compute(tuple(cell.with_seed(seed) for seed in (1, 2, 3)), told.append)
    assert [record.outcome for record in records] == ["completed", "failed", "completed"]
    assert sum(told) == 2 * 3


def test_nothing_is_taken_from_other_settings_or_data_and_all_from_another_device_or_place(tmp_path: Path) -> None:
    one = plan("table1", chosen(tmp_path, *TWO)).cells[0].experiment
    store, record = Store(tmp_path / "runs"), Record(outcome="completed", measurements=((3, 0.5, 0.5),))
    store.write(one, record)
    assert store.read(one) == record
    (tmp_path / "moved").write_bytes((tmp_path / "data").read_bytes())
    (tmp_path / "other").write_text("other drawers")
    for changed in ({"rounds": 4}, {"seed": 2}, {"vote": "mixed"}, {"data": tmp_path / "other"}, {"gamma": 0.2}):
        assert store.read(one.model_copy(update=changed)) is None
    for same in ({"device": "cuda"}, {"data": tmp_path / "moved"}, {"f": one.byzantine}):
        assert store.read(one.model_copy(update=same)) == record
    (file,) = store._folder.iterdir()
    file.write_text(file.read_text()[:50])  # as no write of ours leaves it
    assert store.read(one) is None
    with pytest.raises(OstrakonError, match=r"DATA=.*/nowhere: .* does not exist"):
        store.read(one.model_copy(update={"data": tmp_path / "nowhere"}))


def test_a_cell_is_the_mean_and_the_deviation_of_its_runs_beside_what_the_paper_has(tmp_path: Path) -> None:
    settings = chosen(tmp_path, *TWO)
    of_table = plan("table1", settings)
    cells = tuple(
        Cell(cell.block, cell.row, cell.column, cell.experiment, paper("homogeneous")[0.4, cell.row, cell.column])
        for cell in of_table.cells
    )
    made = Plan("table1", "a title", "table", "rule", cells)
    computed(made, settings)
    text = shown(made, settings)
    accuracies = []
    for cell, line in zip(cells, lines(text.csv), strict=True):
        last = [run_alone(cell.with_seed(seed)).accuracy[-1].accuracy for seed in (1, 2)]
        accuracies.append(sum(last) / 2)
        assert float(line["accuracy"]) == pytest.approx(accuracies[-1], abs=1e-4)
        assert float(line["std"]) == pytest.approx(statistics.stdev(last), abs=1e-4)
        assert (line["row"], line["attack"], line["runs"], line["rounds"]) == (cell.row, cell.column, "2", "3")
        assert cell.paper is not None and float(line["paper"]) == cell.paper.accuracy
    (row,) = (line for line in text.markdown.splitlines() if line.startswith("| `Mean2P`"))
    found = [cell.strip() for cell in row.strip("|").split("|")]
    assert found[1].startswith(f"{accuracies[2]:.2f} ± ") and found[1].endswith("[0.61]")
    assert found[-2:] == [f"{min(accuracies[2:]):.2f} [0.61]", f"{sum(accuracies[2:]) / 2:.2f}"]
    assert "3 rounds; seeds 1 to 2;" in text.markdown and "votes by loss on 3 images" in text.markdown
    assert text.png.startswith(b"\x89PNG")


def test_a_run_that_diverged_counts_as_nothing_answered(tmp_path: Path) -> None:
    settings = chosen(tmp_path, "RULES=Avg", "ATTACKS=SF", "SEEDS=2")
    made, store = plan("table1", settings), Store(tmp_path / "runs")
    (cell,) = made.cells
    store.write(cell.with_seed(1), Record(outcome="diverged", measurements=((2, 0.8, 0.8),)))
    store.write(cell.with_seed(2), Record(outcome="completed", measurements=((3, 0.5, 0.6),)))
    (filled,) = fill(made, 2, store)
    assert filled.accuracy is not None and filled.pooled is not None
    assert (filled.accuracy.mean, filled.pooled.mean, filled.diverged) == (0.25, 0.3, 1)
    assert "(1 diverged)" in shown(made, settings).markdown


def test_a_figure_has_the_accuracy_over_the_rounds(tmp_path: Path) -> None:
    settings = chosen(tmp_path, "ATTACKS=SF", "SEEDS=1", "ROUNDS=60")
    made = plan("figure3", settings)
    computed(made, settings)
    text = shown(made, settings)
    assert [(line["row"], line["round"]) for line in lines(text.csv)] == [
        *(("Avg", "50"), ("Avg", "60"), ("Mean2P", "50"), ("Mean2P", "60"))
    ]
    assert text.png.startswith(b"\x89PNG")


def test_figure_1_shows_that_each_candidate_is_the_better_one_once() -> None:
    sneak, siege = draw()
    assert sneak.off("Outer") < sneak.off("average") < sneak.off("Inner")
    assert siege.off("Inner") < siege.off("average") < siege.off("Outer")
    text = output_of_figure1()
    assert len(lines(text.csv)) == 2 * (7 + 4 + 3)
    assert text.png.startswith(b"\x89PNG")


def test_what_the_paper_has_is_read_and_every_table_is_made_of_it() -> None:
    assert [len(paper(name)) for name in ("homogeneous", "heterogeneous", "cifar10")] == [156, 168, 48]
    worst = {rule: min(paper("homogeneous")[0.4, rule, attack].accuracy for attack in ATTACKS) for rule in RULES}
    assert list(worst.values()) == [0.0, 0.0, 0.2, 0.02, 0.02, 0.01, 0.62, 0.61]  # the last column of Table 1
    assert paper("heterogeneous")[0.2, "Mean2P", "PGA"] == Known(0.85, 0.01)
    assert paper("cifar10")[0.2, "Avg", "SF"] == Known(0.33, None)
    at_one_rate = table_settings(["RATES=0.2"])
    names = [name for name in PLANS if name[:5] in ("table", "figur")]
    beside = {name: sum(cell.paper is not None for cell in plan(name, at_one_rate).cells) for name in names}
    expected = {"table1": 48, "table2": 48, "table3": 56, "table4": 48, "table5": 24}
    assert expected.items() <= beside.items()
    assert beside["figure2"] == beside["figure3"] == beside["figure4"] == 48


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table1", "RULES=Mean3P"], "unknown rule 'Mean3P'"),
        (["table1", "RULES=;"], "table1 has no cell of such RULES"),
        (["table2", "RATES=0.6"], "RATES='0.6' cannot be used: give shares from 0 to below 0.5"),
        (["table3", "TASK=linear"], "task linear cannot be partitioned by classes"),
        (["votes", "RULES=los on 3"], "unknown row of this table 'los on 3'; did you mean loss on 3"),
        (["votes", "VOTE=mixed"], "leave VOTE and VOTE_BATCH out"),
        (["table1", "SEEDS=0"], "seeds = '0'"),
        (["table1"], "task femnist reads its images from a file: set data"),
        (["table5", "TASK=linear", "WORKERS=15", "ON=ray"], "ON=ray needs ray"),
        (["table5", "TASK=linear", "WORKERS=15", "LOG=mlflow"], r"pip install 'ostrakon\[mlflow\]', or leave it out"),
    ],
)
def test_what_cannot_be_made_is_a_sentence_and_nothing_is_written(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ray", "mlflow"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OstrakonError, match=said):
        command(["experiments", *words, f"RESULTS={tmp_path / 'results'}"])
    assert list(tmp_path.iterdir()) == []


def test_the_command_computes_writes_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["experiments", "table5", "TASK=linear", "WORKERS=5", "ROUNDS=2", "SEEDS=1", "ATTACKS=SF", "JOBS=1"]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table5 -->\n<!-- its end -->\n")
    words += [f"RESULTS={tmp_path / 'results'}", "--update", str(page)]

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "run", interrupted)
        assert command(words) == 130
    assert "4 of 4 runs are not computed yet: the same command goes on." in capsys.readouterr().out
    assert command(words) == 0
    found = capsys.readouterr()
    assert "rate 0.2, Mean2P, SF, seed 1: 0." in found.err
    assert command(words) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (found.out, "")
    table = (tmp_path / "results" / "table5.md").read_text()
    assert table.rstrip("\n") in found.out and table.rstrip("\n") in page.read_text()
    assert {"table5.png", "page.md"} <= {file.name for file in tmp_path.iterdir()}


def test_make_passes_on_every_plan() -> None:
    (listed,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("PLANS :="))
    assert set(listed.split()[2:]) == {*PLANS, FIGURE1}


def test_a_log_is_told_of_each_run_that_was_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = chosen(tmp_path, "RULES=Avg", "ATTACKS=SF", "SEEDS=2")
    made = plan("table1", settings)
    told: dict[str, Any] = {}
    computed(made, settings, log=lambda name, one, measurements: told.update({name: (one.seed, measurements)}))
    assert list(told) == ["table1-rate-0.4-Avg-SF-seed-1", "table1-rate-0.4-Avg-SF-seed-2"]
    assert [seed for seed, _ in told.values()] == [1, 2] and all(m[-1].round == 3 for _, m in told.values())

    def broken(name: str, *_: Any) -> None:
        raise ConnectionError("nobody there")

    more = chosen(tmp_path, "RULES=Avg", "ATTACKS=SF", "SEEDS=3")
    with pytest.raises(OstrakonError, match=r"seed 3 is kept, but cannot be logged \(ConnectionError: nobody there\)"):
        computed(made, more, log=broken)
    assert computed(made, more, log=broken) == []


@pytest.mark.slow
def test_processes_compute_the_same_and_one_that_dies_takes_only_its_own_with_it(tmp_path: Path) -> None:
    settings = chosen(tmp_path)
    cell = plan("table1", settings).cells[0]
    groups: list[Group] = [(cell.with_seed(seed),) for seed in (1, 2, 3)]
    told: list[int] = []

    def kept(found: list[Record]) -> list[Any]:
        return [record.measurements for record in found]

    here = {group[0].seed: kept(compute(group, lambda rounds: None)) for group in groups}
    assert {group[0].seed: kept(found) for group, found in in_processes(groups, 2, told.append)} == here
    assert sum(told) == 3 * 3
    (tmp_path / "deadly").touch()
    outcomes = {group[0].seed: found[0].outcome for group, found in in_processes(groups, 1, told.append)}
    assert outcomes == {1: "completed", 2: "failed", 3: "completed"}


@pytest.mark.slow
def test_a_local_ray_computes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    here = chosen(tmp_path, *TWO)
    there = here.model_copy(update={"results": tmp_path / "there", "on": "ray"})
    made = plan("table1", here)
    computed(made, here)
    assert len(computed(made, there)) == 8
    assert shown(made, here).csv == shown(made, there).csv


@pytest.mark.slow
def test_tensorboard_is_written_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tell = logs.log("tensorboard", tmp_path)
    one = experiment(task="linear", rounds=2)
    tell("a-run", one, run_alone(one).accuracy)
    assert [file.name.startswith("events") for file in (tmp_path / "a-run").iterdir()] == [True]


def test_an_empty_place_on_a_page_is_filled_and_the_next_one_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- one -->\n<!-- its end -->\nbetween\n<!-- two -->\nold\n<!-- its end -->\n")
    renew(page, "one", "new")
    assert page.read_text() == (
        "<!-- one -->\n\nnew\n\n<!-- its end -->\nbetween\n<!-- two -->\nold\n<!-- its end -->\n"
    )
