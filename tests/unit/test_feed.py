"""Batches from an iterable of the task's, and batches that it changes at random for training."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ostrakon.common.algorithm import Step
from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import ContractBroken, Examples, Task
from ostrakon.common.tasks.data import DataNotReadable
from ostrakon.common.tasks.feed import Feed, trained_on
from ostrakon.experiments import experiment, run
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.sampling import SECOND_MOMENTUM, TRAINING
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.testbed.bed import Bed
from ostrakon.worker.testbed.settings import WorkerFile
from tests.harness.cluster import ROOT
from tests.unit.small_task import SmallTask

THETA = np.random.default_rng(1).standard_normal(27).astype(np.float32)


class Numbers(Dataset[tuple[Tensor, Tensor]]):
    """Examples 0 to 19, whose first input says which each is."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return torch.full((8,), float(place)), torch.tensor(place % 3)


class Streaming(SmallTask):
    """Gives what a function makes; remembers what was trained on."""

    def __init__(self, give: Callable[[torch.Generator], Any] | None = None) -> None:
        super().__init__()
        self.give = give or (lambda rng: DataLoader(Numbers(), 4, shuffle=True, generator=rng))
        self.asked: list[tuple[int, int, int]] = []
        self.seen: list[Tensor] = []

    def batches(self, worker: int, workers: int, batch: int, rng: torch.Generator) -> Iterable[Any]:
        self.asked.append((worker, workers, batch))
        found: Iterable[Any] = self.give(rng)
        return found

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        self.seen.append(labels.clone())
        return super().losses(outputs, labels)


def feed(task: Task, *, worker: int = 0, seed: int = 1) -> Feed:
    return Feed(task, worker, 3, 4, seed)


def numbers(found: Feed, rounds: Iterable[int], purpose: int = TRAINING) -> list[list[int]]:
    """Which examples are in the batches of these rounds."""
    return [[int(one) for one in found.batch(purpose, round).inputs[:, 0]] for round in rounds]


def flat(batches: Iterable[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def test_each_pass_over_the_data_is_whole_and_in_another_order() -> None:
    found = numbers(feed(Streaming()), range(1, 11))
    passes = flat(found[:5]), flat(found[5:])
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(20))
    assert passes[0] != passes[1]


def test_the_order_follows_from_seed_worker_and_the_round_of_the_start() -> None:
    first = numbers(feed(Streaming()), range(1, 8))
    assert numbers(feed(Streaming()), range(1, 8)) == first
    for other in (feed(Streaming(), worker=1), feed(Streaming(), seed=2)):
        assert numbers(other, range(1, 8)) != first
    restarted = numbers(feed(Streaming()), range(3, 8))
    assert restarted[0] != first[0] and restarted != first[2:]


def test_what_the_global_generators_draw_follows_from_the_seed_too() -> None:
    def noise(_: torch.Generator) -> Iterator[Any]:
        while True:
            yield torch.rand(4, 8), torch.zeros(4, dtype=torch.int64)

    one, other = feed(Streaming(noise)), feed(Streaming(noise))
    torch.rand(7)
    for round in (1, 2):
        assert torch.equal(one.batch(TRAINING, round).inputs, other.batch(TRAINING, round).inputs)
        torch.rand(round)


def test_a_batch_is_used_once_and_is_the_same_when_asked_for_again() -> None:
    found = feed(Streaming())
    first = numbers(found, [1])
    second = numbers(found, [1], SECOND_MOMENTUM)
    assert numbers(found, [1]) == first and numbers(found, [1], SECOND_MOMENTUM) == second
    rest = numbers(found, [2, 3, 4])
    assert sorted(flat(first + second + rest)) == list(range(20))


def test_an_iterator_that_has_ended_is_asked_for_again() -> None:
    batches = list(DataLoader(Numbers(), 4))
    task = Streaming(lambda _: iter(batches[:2]))
    assert numbers(feed(task), range(1, 6)) == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2 + [[0, 1, 2, 3]]
    assert task.asked == [(0, 3, 4)] * 3


X, Y = torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64)


def failing(_: torch.Generator) -> Iterator[Any]:
    yield X, Y
    raise ValueError("a torn file")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda _: 7, "batches: it returned a int: expected an iterable of batches"),
        (lambda _: [], "batches gave no batch: an iterable of at least one is needed"),
        (lambda _: [X], r"a batch is a float32 \(4, 8\): expected Examples, or inputs and labels"),
        (lambda _: [{"x": X, "y": Y}], "a batch is a dict of 2: expected Examples"),
        (lambda _: [(X, Y, Y)], "a batch is a tuple of 3: expected Examples"),
        (lambda _: [(X.double(), Y)], r"inputs are float64, models are float32: write inputs.float\(\)"),
        (lambda _: [(X, Y[:2])], "4 inputs came with 2 labels"),
        (lambda _: 1 / 0, r"batches: ZeroDivisionError: division by zero \(.*test_feed.py, line"),
    ],
)
def test_what_is_no_iterable_of_batches_is_a_sentence(given: Callable[[Any], Any], sentence: str) -> None:
    with pytest.raises(OstrakonError, match=f"^task Streaming: .*{sentence}"):
        feed(Streaming(given)).first()


def test_what_an_iterable_raises_later_is_a_sentence_with_its_place() -> None:
    found = feed(Streaming(failing))
    found.batch(TRAINING, 1)
    with pytest.raises(OstrakonError, match=r"task Streaming: batches: ValueError: a torn file \(.*test_feed.py, line"):
        found.batch(TRAINING, 2)


def missing(_: torch.Generator) -> Any:
    raise FileNotFoundError("no such file")


def test_data_that_cannot_be_read_yet_are_told_from_code_that_is_wrong() -> None:
    with pytest.raises(DataNotReadable, match="no such file"):
        feed(Streaming(missing)).first()
    with pytest.raises(ContractBroken):
        feed(Streaming(lambda _: None)).first()


def test_batches_are_of_the_kind_that_votes_are_on() -> None:
    task = Streaming(lambda _: [(X[:, :, None], Y)])
    with pytest.raises(OstrakonError, match=r"batches gives inputs float32 \(4, 8, 1\), worker_data float32 "):
        trained_on(task, task.worker_data(0, 3, 1), 0, 3, 4, 1)


def learner(task: Task, **settings: Any) -> LocalLearner:
    chosen = WorkerFile(id="w00", device="cpu", batch=4, beta=0.0, **settings)
    made = Bed(chosen).learner(task) if chosen.lies else LocalLearner(chosen, task)
    made.begin(0, 3)
    return made


def test_a_worker_trains_on_the_batches_and_votes_on_its_data() -> None:
    task = Streaming(lambda _: DataLoader(Numbers(), 4))
    worker = learner(task)
    for round in (1, 2):
        task.seen.clear()
        worker.momentum(round, "base", THETA)
        expected = torch.arange(4 * (round - 1), 4 * round) % 3
        assert [labels.tolist() for labels in task.seen] == [expected.tolist()]
    assert worker.judge(1, THETA, -THETA) == learner(SmallTask()).judge(1, THETA, -THETA)


def test_a_label_flipping_worker_flips_the_batches() -> None:
    task = Streaming(lambda _: DataLoader(Numbers(), 4))
    worker = learner(task, attack="LF@2")
    for round, expected in ((1, [0, 1, 2, 0]), (2, [1, 0, 2, 1])):
        task.seen.clear()
        worker.momentum(round, "base", THETA)
        assert [labels.tolist() for labels in task.seen] == [expected]


class Moved(SmallTask):
    """Moves what it trains on, by a way that a test gives."""

    def __init__(self, how: Callable[[Examples, torch.Generator], Any] | None = None) -> None:
        super().__init__()
        self.how = how or (lambda batch, rng: Examples(batch.inputs + torch.rand(1, generator=rng), batch.labels))

    def augment(self, batch: Examples, rng: torch.Generator) -> Examples:
        found: Examples = self.how(batch, rng)
        return found


def momenta(task: Task, rounds: Iterable[int] = (1, 2), **settings: Any) -> list[list[float]]:
    worker = learner(task, **settings)
    return [worker.momentum(round, "base", THETA).vector.tolist() for round in rounds]


def test_augmentation_is_drawn_from_the_seed_and_the_round_and_for_training_alone() -> None:
    assert momenta(Moved()) == momenta(Moved()) != momenta(SmallTask())
    assert momenta(Moved(), [2]) == momenta(Moved())[1:]
    assert momenta(Moved(), seed=2) != momenta(Moved())
    for vote in ("loss", "proximity"):
        ballots = []
        for task in (Moved(), SmallTask()):
            worker = learner(task, vote=vote)
            worker.momentum(1, "base", THETA)
            worker.prepare(1, "base", THETA, Step(1.0))
            ballots.append(worker.judge(1, THETA, 0 * THETA))
        assert (ballots[0].inner_loss, ballots[0].outer_loss) == (ballots[1].inner_loss, ballots[1].outer_loss)


def test_augmentation_may_draw_from_global_generators_and_write_into_its_batch() -> None:
    def noise(batch: Examples, rng: torch.Generator) -> Examples:
        batch.inputs.add_(torch.randn(batch.inputs.shape))
        return Examples(batch.inputs[:3], batch.labels[:3])

    assert momenta(Moved(noise)) == momenta(Moved(noise))
    assert momenta(Moved(lambda batch, rng: batch)) == momenta(SmallTask())


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (lambda batch, rng: batch.inputs, r"task Moved: augment returned a float32 \(4, 8\): expected Examples"),
        (
            lambda batch, rng: Examples(batch.inputs, batch.labels[:1]),
            "augment: 4 inputs came with 1 labels",
        ),
        (lambda batch, rng: 1 / 0, r"task Moved: augment: ZeroDivisionError: division by zero \(.*test_feed.py"),
        (
            lambda batch, rng: Examples(batch.inputs + float(np.random.default_rng().random()), batch.labels),
            "draw random numbers from the global generators",
        ),
    ],
)
def test_augmentation_that_cannot_be_meant_is_refused_before_a_run(how: Callable[..., Any], sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        LocalLearner(WorkerSettings(device="cpu", batch=4), Moved(how)).rehearse()


@pytest.mark.parametrize("name", ["Streaming", "Moved"])
def test_an_experiment_with_such_a_task_is_computed_worker_by_worker(name: str) -> None:
    one = experiment(
        task=f"tests.unit.test_feed:{name}", workers=3, byzantine=1, rounds=2, evaluate_every=2, batch=4, device="cpu"
    )
    with pytest.raises(OstrakonError, match=r"which the engine does not call: run it .* with exact=True"):
        run(one)
    assert run(one, exact=True).outcome == "completed"


def test_the_documented_task_of_batches_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (source,) = (block for block in others if "class Streamed" in block)
    (tmp_path / "mytask.py").write_text(first, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found: dict[str, Any] = {}
    exec(source, found)
    worker = LocalLearner(WorkerSettings(device="cpu"), found["Streamed"]())
    worker.rehearse()
    worker.begin(1, 3)


def test_batches_may_come_from_other_processes() -> None:
    data = TensorDataset(torch.arange(12.0)[:, None].expand(12, 8), torch.arange(12) % 3)
    alone, apart = (
        feed(Streaming(lambda rng, n=n: DataLoader(data, 4, shuffle=True, generator=rng, num_workers=n)))  # type: ignore[misc]
        for n in (0, 1)
    )
    assert numbers(apart, range(1, 5)) == numbers(alone, range(1, 5))
