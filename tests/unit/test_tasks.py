"""Tasks: the contract's defaults, how a name becomes a task, and what the built-in ones promise."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.characters import CHARACTERS
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task

OWN_TASK = """
import torch
from torch import nn
from ostrakon.common.tasks.contract import Examples, Task

class Pairs(Task):
    classes = 2
    def model(self): return nn.Linear(1, 2)
    def worker_data(self, worker, workers, seed): return Examples(torch.ones(4, 1), torch.zeros(4, dtype=torch.long))
    def test_data(self, seed): return self.worker_data(0, 1, seed)

class Unfinished(Task):
    def model(self): return nn.Linear(1, 2)

class NoTask: ...
"""


BROKEN_MODULES = {
    "broken_task": "import no_such_package_at_all",
    "exits": "import sys\nsys.exit(3)",
    "parses": "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', required=True)\np.parse_args()",
    "words": "import argparse\nargparse.ArgumentParser().parse_args()\nfrom own_task import Pairs\nprint('hello')",
    "misses": "from own_task import Pears",
    "misspelt": "x = 1\nprin('hello')",
    "unfinished": "class A(:\n  pass",
    "interrupted": "raise KeyError('x')",
    "neighbour": "from common import Pairs",
}


def same(a: Examples, b: Examples) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)


def rows(*examples: Examples) -> set[bytes]:
    return {row.numpy().tobytes() for part in examples for row in part.inputs}


def after_momentum_sgd(learned: Task, workers: int, steps: int, batch: int, gamma: float) -> float:
    """Accuracy on the test data of one model trained on all workers' examples."""
    flat = FlatModel(initial_model(learned, 1), "cpu")
    shares = [learned.worker_data(worker, workers, 1) for worker in range(workers)]
    inputs, labels = torch.cat([s.inputs for s in shares]), torch.cat([s.labels for s in shares])
    momentum, rng = torch.zeros_like(flat.theta), torch.Generator().manual_seed(1)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch,), generator=rng)
        flat.zero_gradient()
        learned.losses(flat.module(inputs[chosen]), labels[chosen]).mean().backward()
        momentum.mul_(0.9).add_(flat.gradient, alpha=0.1)
        flat.theta.sub_(momentum, alpha=gamma)
    test = learned.test_data(1)
    with torch.no_grad():
        return learned.correct(flat.module(test.inputs), test.labels).float().mean().item()


class Line(Task):
    """A regression task overrides three methods and names no classes."""

    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        inputs = torch.linspace(-1, 1, 50).unsqueeze(1)
        return Examples(inputs, 3 * inputs[:, 0] + 1)

    def test_data(self, seed: int) -> Examples:
        return self.worker_data(0, 1, seed)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, 0] - labels).square()

    def correct(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, 0] - labels).abs() < 0.1

    def flip(self, labels: Tensor) -> Tensor:
        return -labels


def test_defaults_are_cross_entropy_argmax_and_reversed_labels() -> None:
    linear, scores, labels = task("linear"), torch.randn(6, 10), torch.tensor([0, 1, 2, 3, 8, 9])
    torch.testing.assert_close(linear.losses(scores, labels), -scores.log_softmax(1)[range(6), labels])
    assert linear.correct(nn.functional.one_hot(labels, 10).float(), labels).all()
    assert linear.flip(labels).tolist() == [9, 8, 7, 6, 1, 0]


def test_a_regression_task_learns() -> None:
    assert after_momentum_sgd(Line(), workers=1, steps=100, batch=16, gamma=0.2) == 1


def test_the_initial_model_follows_from_the_seed_and_nothing_else() -> None:
    linear = task("linear")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = initial_model(linear, 1), initial_model(linear, 1), initial_model(linear, 2)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(torch.rand(3), expected)  # and the caller's own draws are not disturbed


def test_examples_need_a_label_for_each_input_and_at_least_one() -> None:
    with pytest.raises(OstrakonError, match="3 inputs came with 2 labels"):
        Examples(torch.ones(3, 1), torch.ones(2))
    with pytest.raises(OstrakonError, match="no examples"):
        Examples(torch.ones(0, 1), torch.ones(0))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_task.py").write_text(OWN_TASK)
    for name, source in BROKEN_MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    yield tmp_path
    for name in ("own_task", "common", *BROKEN_MODULES):
        sys.modules.pop(name, None)


def test_a_users_task_is_found_in_the_current_directory_and_given_its_data(own: Path) -> None:
    pairs = task("own_task:Pairs", own / "pairs.csv")
    assert pairs.data == own / "pairs.csv"
    assert len(pairs.worker_data(0, 1, 1)) == 4


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "glyps",
            r"unknown task 'glyps'; did you mean glyphs\? \(known: glyphs, linear, femnist, cifar10, package\.module",
        ),
        ("no_such_module:Mine", r"there is no module 'no_such_module': save it in this folder"),
        ("broken_task:Mine", r"'broken_task:Mine': there is no module 'no_such_package_at_all'"),
        (":Mine", r"module '' cannot be imported"),
        ("exits:Mine", r"'exits' cannot be imported: the code ends the process, with status 3 \(exits\.py, line 2"),
        ("parses:Mine", r"with status 2 after printing '.*required: --lr' \(parses\.py, line 4, in <module>\)"),
        ("misses:Mine", r"ImportError: cannot import name 'Pears' from 'own_task' .* \(misses\.py, line 1"),
        ("misspelt:Mine", r"NameError: name 'prin' is not defined.* \(misspelt\.py, line 2, in <module>\)"),
        ("unfinished:Mine", r"SyntaxError: .* \(unfinished\.py, line 1\)"),
        ("interrupted:Mine", r"KeyError: 'x' \(interrupted\.py, line 1"),
        ("sys:Mine", r"module sys has no such class"),
        ("own_task:Pears", r"own_task\.py has no such class"),
        ("own_task:NoTask", r"NoTask is no subclass of ostrakon\.Task"),
        ("own_task:Unfinished", r"Unfinished must also define test_data, worker_data"),
    ],
)
def test_a_name_that_is_no_task_is_refused_with_a_sentence(own: Path, name: str, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        task(name)


def test_a_module_that_reads_the_command_line_or_prints_is_imported_without_harm(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ostrakon", "--config", "worker.toml"])
    task("words:Pairs")
    assert sys.argv == ["ostrakon", "--config", "worker.toml"]
    assert capsys.readouterr() == ("", "hello\n")  # standard output is not the module's


def test_a_users_modules_may_be_called_as_ours(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where ostrakon is installed, its folders are not on the path.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "pyproject.toml").exists()])
    (own / "common.py").write_text(OWN_TASK)
    for name in ("server", "worker", "deploy", "protos", "bench"):
        (own / f"{name}.py").write_text("raise RuntimeError('this was imported')")
    assert len(task("neighbour:Pairs").worker_data(0, 1, 1)) == 4


def test_data_for_a_task_that_makes_its_own_is_refused() -> None:
    with pytest.raises(OstrakonError, match=r"task linear makes its own data, but data = x\.npz"):
        task("linear", Path("x.npz"))


@pytest.mark.slow
def test_a_process_that_needs_another_task_does_not_load_matplotlib() -> None:
    code = (
        "import sys; from ostrakon.common.tasks.registry import task; task('linear').test_data(1); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ostrakon.common.tasks.linear" in loaded
    assert not {"matplotlib", "PIL", "ostrakon.common.tasks.glyphs"} & set(loaded)


@pytest.mark.parametrize("name", ["linear", "glyphs"])
def test_made_up_data_follows_from_the_seed_and_no_worker_shares_it(name: str) -> None:
    made = task(name)
    first, second, test = made.worker_data(0, 2, 1), made.worker_data(1, 2, 1), made.test_data(1)
    assert same(first, made.worker_data(0, 2, 1))
    assert same(test, made.test_data(1))
    assert len(rows(first, second, test)) == len(first) + len(second) + len(test)
    assert not rows(first, test) & rows(made.worker_data(0, 2, 2), made.test_data(2))


def test_linear_is_tiny_and_learned_within_twenty_rounds() -> None:
    linear = task("linear")
    assert FlatModel(initial_model(linear, 1), "cpu").parameters == 170
    for gamma in (0.2, 1.0):
        assert after_momentum_sgd(linear, workers=6, steps=20, batch=96, gamma=gamma) > 0.6


def test_glyphs_do_not_depend_on_the_number_of_threads() -> None:
    glyphs, threads = task("glyphs"), torch.get_num_threads()
    drawn = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            drawn.append(glyphs.worker_data(0, 2, 1))
    finally:
        torch.set_num_threads(threads)
    assert same(*drawn)


def test_glyphs_are_standardised_images_of_every_class() -> None:
    glyphs = task("glyphs")
    share, test = glyphs.worker_data(0, 1, 1), glyphs.test_data(1)
    assert share.inputs.shape == (900, 1, 28, 28)
    assert share.inputs.dtype == torch.float32
    assert abs(share.inputs.mean().item()) < 0.05
    assert abs(share.inputs.std().item() - 1) < 0.05
    assert test.labels.bincount().tolist() == [20] * 62
    # Wide characters have more ink on the sides than narrow ones: labels and pictures belong together.
    darkness = -test.inputs[:, 0].reshape(62, 20, 28, 28).mean(dim=(1, 2))
    assert darkness[CHARACTERS.index("W"), 6] > darkness[CHARACTERS.index("l"), 6] + 0.5


@pytest.mark.slow
def test_glyphs_are_learned_within_sixty_steps_well_above_chance() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert after_momentum_sgd(task("glyphs"), workers=2, steps=60, batch=32, gamma=0.2) > 0.15
    finally:
        torch.set_num_threads(threads)


def test_the_network_of_the_seed_has_115646_parameters() -> None:
    assert FlatModel(initial_model(task("glyphs"), 1), "cpu").parameters == 115_646


def test_label_flipping_maps_digits_to_digits_and_swaps_the_case_of_letters() -> None:
    flipped = "".join(CHARACTERS[y] for y in task("glyphs").flip(torch.arange(62)))
    assert flipped == "1852963074" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
