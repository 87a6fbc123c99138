"""Measures of a task's own: from its methods over the evaluator's lines to what people are shown."""

import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks import data
from ostrakon.common.tasks.contract import Task
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.rehearsal import TEST_BLOCK, rehearse
from ostrakon.deploy import live, plots, report
from ostrakon.deploy.measured import Measurement, of_average, of_model
from ostrakon.deploy.record import read_lines, read_record
from ostrakon.deploy.settings import RunSettings
from ostrakon.worker.evaluator.follower import Evaluation
from ostrakon.worker.evaluator.measure import measure, own_measures
from ostrakon.worker.settings import EvaluatorSettings
from tests.harness.cluster import ROOT
from tests.unit.small_task import SmallTask
from tests.unit.test_report import PNG, commit, write_lines

THETA = np.random.default_rng(1).standard_normal(27).astype(np.float32)


class Own(SmallTask):
    """The small task, measured by what a test gives."""

    def __init__(
        self, measures: Callable[[Tensor, Tensor], Any] | None = None, finish: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__()
        self.given, self.finished = measures, finish or dict

    def measures(self, outputs: Tensor, labels: Tensor) -> Any:
        return super().measures(outputs, labels) if self.given is None else self.given(outputs, labels)

    def finish(self, means: Any) -> Any:
        return self.finished(means)


def measured(task: Task, theta: np.ndarray[Any, Any] = THETA) -> Any:
    return own_measures(task, FlatModel(initial_model(task, 1), "cpu"), theta, data.test_data(task, 1))


def test_without_measures_of_its_own_a_task_is_measured_by_its_accuracy() -> None:
    task = SmallTask()
    found = measured(task)
    known = measure(task, FlatModel(initial_model(task, 1), "cpu"), THETA, data.test_data(task, 1))
    assert dict(found.values) == {"accuracy": known.accuracy}
    assert (found.loss, found.shares) == (known.loss, {"accuracy"})
    assert measured(Own()) == found


def test_means_are_over_all_examples_of_all_blocks_and_what_is_made_of_them_is_shown() -> None:
    def measures(outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        positive, said = labels == 1, outputs.argmax(dim=1) == 1
        return {"tp": said & positive, "fp": said & ~positive, "fn": ~said & positive, "margin": outputs.amax(dim=1)}

    def finish(means: dict[str, float]) -> dict[str, Any]:
        f1 = 2 * means["tp"] / (2 * means["tp"] + means["fp"] + means["fn"])
        return {"F1": f1, "margin": torch.tensor(means["margin"]), "tp": means["tp"]}

    task = Own(measures, finish)
    examples = data.test_data(task, 1)
    assert len(examples) > 2 * TEST_BLOCK
    weight, bias = torch.from_numpy(THETA[:24].reshape(3, 8)), torch.from_numpy(THETA[24:])
    outputs = torch.nn.functional.linear(examples.inputs, weight, bias)
    means = {name: one.double().mean().item() for name, one in measures(outputs, examples.labels).items()}
    found = measured(task)
    assert list(found.values) == ["F1", "margin", "tp"] and found.shares == {"tp"}
    assert found.values["F1"] == pytest.approx(finish(means)["F1"])
    assert found.values["margin"] == pytest.approx(means["margin"])


@pytest.mark.parametrize(
    ("finish", "values"),
    [
        (lambda means: {"F1": 0.0 * means["near"] / (0.0 * means["near"]), "near": means["near"]}, [math.nan, 0.75]),
        (lambda means: {"perplexity": 10 ** (1000 * means["near"])}, [math.inf]),
        (lambda means: {"perplexity": math.exp(1000 * means["near"])}, [math.nan]),
        (lambda means: {"log": math.log(means["near"] - 1), "near": means["near"]}, [math.nan, math.nan]),
    ],
)
def test_arithmetic_without_a_result_leaves_a_measure_that_is_not_finite(finish: Any, values: list[float]) -> None:
    task = Own(lambda outputs, labels: {"near": torch.arange(len(labels)) % 4 > 0}, finish)
    assert list(measured(task).values.values()) == pytest.approx(values, nan_ok=True, abs=0.01)


def test_an_example_without_a_finite_loss_is_none_of_a_share() -> None:
    found = measured(Own(lambda outputs, labels: {"there": labels >= 0}), np.full(27, np.nan, np.float32))
    assert found.values == {"there": 0.0} and math.isnan(found.loss)


@pytest.mark.parametrize(
    ("measures", "finish", "sentence"),
    [
        (lambda o, y: None, None, "task Own: measures: it returned nothing: expected a dict with a name for each"),
        (lambda o, y: o, None, r"task Own: measures: it returned a float32 \(76, 3\): expected a dict"),
        (lambda o, y: {"x": o.mean()}, None, r"measures: 'x' is float32 \(\): expected one number for each example"),
        (lambda o, y: {"x": 3}, None, "measures: 'x' is int: expected one number for each example"),
        (lambda o, y: {"loss": y}, None, "measures: 'loss' is no name of a measure"),
        (lambda o, y: {3: y}, None, "measures: '3' is no name of a measure"),
        (lambda o, y: {"x\n": y}, None, "is no name of a measure"),
        (lambda o, y: 1 / 0, None, r"measures: ZeroDivisionError: division by zero \(.*test_measures.py"),
        (None, lambda means: 0.5, "task Own: finish: it returned a float: expected a dict"),
        (None, lambda means: {}, "finish: it returned nothing: expected a dict"),
        (None, lambda means: {"x": "good"}, "finish: 'x' is a str: expected a number"),
        (None, lambda means: {"x": means["f1"]}, r"finish: KeyError: 'f1' \(.*test_measures.py"),
    ],
)
def test_measures_that_cannot_be_meant_are_refused_before_a_run(measures: Any, finish: Any, sentence: str) -> None:
    task = Own(measures, finish)
    with pytest.raises(OstrakonError, match=sentence):
        rehearse(task, FlatModel(initial_model(task, 1), "cpu"), seed=1, test=data.test_data(task, 1))


class Planes(SmallTask):
    """Measured by what may not be finite."""

    def measures(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"squared": (outputs[:, 0] - labels) ** 2, "near": (outputs[:, 0] - labels).abs() < 1}

    def finish(self, means: Any) -> Any:
        return {"R2": math.nan, "RMSE": means["squared"] ** 0.5, "near": means["near"]}


def lines(folder: Path, task: str) -> list[dict[str, Any]]:
    evaluation = Evaluation(EvaluatorSettings(task=task, device="cpu"), folder / "evaluations.jsonl")
    evaluation.model(3, THETA)
    evaluation.average(3, THETA)
    return read_lines(folder / "evaluations.jsonl")


def test_the_evaluator_writes_what_is_read_back(tmp_path: Path) -> None:
    model, average = lines(tmp_path, "tests.unit.test_measures:Planes")
    assert list(model["measures"]) == ["R2", "RMSE", "near"] and model["measures"]["R2"] is None
    found, of_it = of_model(model), of_average(average)
    assert found is not None and of_it is not None
    assert (found.round, found.headline, found.shares) == (3, "R2", {"near"})
    assert found.shown("R2") == "not finite" and found.shown("near").endswith(" %")
    assert re.fullmatch(r"[\d.]+", found.shown("RMSE"))
    assert dict(of_it.values)["RMSE"] == dict(found.values)["RMSE"]
    assert of_average(model) is None and of_model(average) is None


def test_a_task_without_measures_of_its_own_has_the_lines_that_it_always_had(tmp_path: Path) -> None:
    model, average = lines(tmp_path, "tests.unit.small_task:SmallTask")
    assert [*model] == ["round", "accuracy", "loss"]
    assert [*average] == ["round", "accuracy_of_average", "loss_of_average"]


REGRESSION = [
    {"round": 0, "measures": {"R2": -1.5, "near": 0.25}, "shares": ["near"], "loss": 4.0},
    {"round": 2, "measures": {"R2": None, "near": 0.5}, "shares": ["near"], "loss": 2.0},
    {"round": 4, "measures": {"R2": 0.8371, "near": 0.75}, "shares": ["near"], "loss": 1.5},
    {"round": 4, "measures_of_average": {"R2": 0.5, "near": 0.5}, "shares": ["near"], "loss_of_average": 2.0},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    commit(tmp_path, "iioi", {}, {})
    write_lines(tmp_path / "evaluations.jsonl", REGRESSION)
    return tmp_path


def test_summary_and_curves_show_the_headline_and_only_shares_in_percent(folder: Path) -> None:
    summary = report.write(folder)
    kept = json.loads((folder / "summary.json").read_text())
    assert kept["measures"] == {"R2": 0.8371, "near": 0.75} and kept["measures_of_average"] == {"R2": 0.5, "near": 0.5}
    assert (kept["accuracy"], kept["accuracy_round"]) == (None, 4)
    assert (folder / "curves.png").read_bytes().startswith(PNG)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table("x", summary))
    cells = [[cell.strip() for cell in line.split("│")] for line in console.export_text().splitlines() if "│" in line]
    rows = {name: value for _, name, value, _ in cells}
    assert rows["test R2"] == "0.8371 (round 4)" and rows["test near"] == "75.0 % (round 4)"
    assert rows["R2 of the averaged model"] == "0.5 (rounds 1 to 4)"
    assert "test accuracy" not in rows


def test_runs_that_are_measured_by_different_things_are_not_compared(folder: Path, tmp_path_factory: Any) -> None:
    assert plots.compare([read_record(folder)] * 2).startswith(PNG)
    other = tmp_path_factory.mktemp("other")
    commit(other, "ii", {}, {})
    write_lines(other / "evaluations.jsonl", [{"round": 2, "accuracy": 0.5, "loss": 1.0}])
    with pytest.raises(OstrakonError, match=r"are measured by the same thing, these are not: .* by R2, .* by accuracy"):
        plots.compare([read_record(folder), read_record(other)])


def test_the_live_table_shows_what_is_measured() -> None:
    progress = live.Progress(RunSettings())
    assert progress.facts()[0] == ("test accuracy", "not measured yet")
    progress.measured = Measurement(7, {"R2": 0.25, "near": 0.5}, math.inf, frozenset(["near"]))
    assert progress.facts()[:2] == [("test R2", "0.25, test loss not finite (round 7)"), ("test near", "50.0 %")]
    assert "R2 0.25, test loss not finite (round 7)" in progress.line()
    progress.measured = of_model({"round": 3, "accuracy": 0.5, "loss": 0.25})
    assert progress.facts()[0] == ("test accuracy", "50.0 %, test loss 0.25 (round 3)")


def test_the_documented_regression_is_measured() -> None:
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    (source,) = (one for one in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "class Planes" in one)
    found: dict[str, Any] = {}
    exec(source, found)
    task = found["Planes"]()
    model = FlatModel(initial_model(task, 1), "cpu")
    rehearse(task, model, seed=1, training=task.worker_data(0, 3, 1), test=task.test_data(1))
    right = measured(task, np.array([3, -1, 1], np.float32))
    assert right.values["R2"] == pytest.approx(0.975, abs=0.01) and right.values["RMSE"] == pytest.approx(0.5, abs=0.05)
    assert right.shares == {"within 1"} and right.values["within 1"] > 0.9
