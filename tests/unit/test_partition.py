"""Partitions: what distribution each gives a worker, and what happens when a class runs out."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ostrakon import Examples, OstrakonError, Task, partition
from ostrakon.common.tasks import data
from ostrakon.common.tasks.partition.parts import deal
from ostrakon.common.tasks.registry import task
from tests.harness.cluster import ROOT

LABELS = np.repeat(np.arange(10), 600)


def shares(held: partition.Indices, labels: NDArray[np.int64] = LABELS) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.bincount(labels[held], minlength=10) / len(held)
    return found


def test_uniform_takes_as_many_of_each_class_and_all_are_tested_alike() -> None:
    parts = partition.uniform(LABELS, 7, 1, per_class=30, test_per_class=50)
    assert all(np.bincount(LABELS[held]).tolist() == [30] * 10 for held in parts.training)
    assert np.bincount(LABELS[parts.pooled]).tolist() == [50] * 10
    assert all(own is parts.pooled for own in parts.tests)


def test_dirichlet_with_a_large_alpha_is_the_prior_and_with_a_small_one_a_single_class() -> None:
    labels = np.repeat(np.arange(10), [1500, *[500] * 9])
    even = partition.dirichlet(labels, 5, 1, alpha=1e5, training=600)
    assert np.abs([shares(held, labels) - np.bincount(labels) / len(labels) for held in even.training]).max() < 0.06
    extreme = partition.dirichlet(labels, 5, 1, alpha=1e-5, training=100)
    assert [np.count_nonzero(np.bincount(labels[held])) for held in extreme.training] == [1] * 5


def test_a_worker_is_tested_on_the_distribution_that_it_trains_on() -> None:
    for parts in (
        partition.dirichlet(np.tile(LABELS, 9), 8, 3, alpha=0.1, total=10, training=1000, test=500),
        partition.by_shards(np.tile(LABELS, 9), 8, 3, shards=3, training=1000, test=500),
    ):
        for held, own in zip(parts.training, parts.tests, strict=True):
            assert np.abs(shares(held, np.tile(LABELS, 9)) - shares(own, np.tile(LABELS, 9))).max() < 0.06


def test_the_total_says_how_many_classes_a_worker_has() -> None:
    few, many = (
        np.mean([np.count_nonzero(shares(held)) for held in partition.dirichlet(LABELS, 30, 1, total=total).training])
        for total in (1, 62)
    )
    assert few < 2 < 6 < many


def test_q_has_the_moments_of_a_dirichlet_distribution() -> None:
    """Mean p, variance p (1 - p) / (a + 1), a the sum of the concentrations."""
    parts = partition.dirichlet(np.repeat(np.arange(10), 60_000), 400, 5, alpha=0.5, total=4, training=1000)
    found = np.array([np.bincount(held // 60_000, minlength=10) / len(held) for held in parts.training])
    np.testing.assert_allclose(found.mean(axis=0), 0.1, atol=0.03)
    np.testing.assert_allclose(found.var(axis=0).mean(), 0.1 * 0.9 / 3, rtol=0.1)


def test_a_class_that_runs_out_is_shared_in_proportion_and_replaced_by_no_other() -> None:
    labels = np.repeat([0, 1], [500, 60])
    asked = np.array([[100, 0], [50, 100], [0, 25], [7, 1]])
    held = deal(np.arange(560), labels, np.array([0, 1]), asked)
    found = [np.bincount(labels[mine], minlength=2).tolist() for mine in held]
    assert found == [[100, 0], [50, 100 * 60 // 126], [0, 25 * 60 // 126], [7, 0]]


def test_by_writer_keeps_a_writers_examples_together_and_stops_when_a_worker_has_enough() -> None:
    writers = np.repeat(np.arange(40), np.arange(20, 60))
    parts = partition.by_writer(writers, 5, 1, training=100)
    of = [
        set(writers[np.concatenate([held, own])].tolist())
        for held, own in zip(parts.training, parts.tests, strict=True)
    ]
    assert sum(map(len, of)) == len(set.union(*of))
    for held, own, mine in zip(parts.training, parts.tests, of, strict=True):
        assert len(held) + len(own) == sum(20 + writer for writer in mine)
        assert 100 <= len(held) < 100 + 50
    everything = partition.by_writer(writers, 5, 1, training=10**6)
    assert sum(map(len, everything.training + everything.tests)) == len(writers)


def test_shards_are_stretches_of_the_sorted_labels() -> None:
    parts = partition.by_shards(LABELS, 10, 1, shards=2, training=500)
    assert [len(held) for held in parts.training] == [500] * 10
    for held in parts.training:
        assert sum(a != b for a, b in pairwise(LABELS[held])) <= 3
        assert np.count_nonzero(shares(held)) <= 4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dirichelt", "unknown partition 'dirichelt'; did you mean dirichlet"),
        ("dirichlet(beta=1)", r"dirichlet has no parameter beta \(known: alpha, total\)"),
        ("uniform(alpha=1)", r"uniform has no parameter alpha \(known: none\)"),
        ("dirichlet(alpha=0)", "alpha = 0 of a Dirichlet partition: give a number above 0"),
        ("dirichlet(alpha='x')", "alpha = 'x'"),
        ("dirichlet(total=1e999)", "total = inf"),
        ("by_shards(shards=0)", "shards = 0 cannot be used: give a whole number"),
        ("by_shards(shards=2.5)", "shards = 2.5 cannot be used"),
        ("by_shards(shards=10000000000)", "at most as many as a worker has examples"),
        ("dirichlet(0.1)", "without its name"),
    ],
)
def test_what_is_no_partition_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        partition.scheme(text)


def test_a_partition_says_all_of_its_parameters() -> None:
    assert str(partition.scheme("dirichlet")) == "dirichlet(alpha=0.1, total=1)"
    assert str(partition.scheme("dirichlet( total = 62.0 )")) == "dirichlet(alpha=0.1, total=62)"
    assert str(partition.scheme("by_writer")) == "by_writer"


def test_data_that_cannot_be_partitioned_are_a_sentence() -> None:
    for call, sentence in (
        (lambda: partition.uniform([0.5], 1, 1), "labels must be .N,. integers, but are float64"),
        (lambda: partition.by_writer([[1]], 1, 1), "writers must be"),
        (lambda: partition.uniform([1, 2], 0, 1), "workers = 0 cannot be used"),
        (lambda: partition.dirichlet([1, 2], 1, 1, is_test=[True]), "is_test must be 2 bool"),
    ):
        with pytest.raises(OstrakonError, match=sentence):
            call()


class Points(Task):
    """A user's task that partitions its own data and has an option."""

    classes = 3

    def __init__(self, data: Path | None = None, *, split: str = "uniform") -> None:
        super().__init__(data)
        self.scheme = partition.scheme(split)

    def model(self) -> nn.Module:
        return nn.Linear(1, 3)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return self.some(self.scheme(LABELS % 3, workers, seed).training[worker])

    def test_data(self, seed: int) -> Examples:
        return self.some(self.scheme(LABELS % 3, 1, seed).pooled)

    def worker_test_data(self, worker: int, workers: int, seed: int) -> Examples:
        return self.some(self.scheme(LABELS % 3, workers, seed).tests[worker] + torch.randint(1, ()).item())

    def some(self, chosen: partition.Indices) -> Examples:
        return Examples(torch.from_numpy(chosen[:, None]).float(), torch.from_numpy(LABELS[chosen] % 3))


class Pooled(Points):
    """One that draws its test data, and has none of each worker."""

    worker_test_data = Task.worker_test_data

    def test_data(self, seed: int) -> Examples:
        return Examples(torch.rand(5, 1), torch.zeros(5, dtype=torch.int64))


class Forgetful(Points):
    def worker_test_data(self, worker: int, workers: int, seed: int) -> Examples:
        return None  # type: ignore[return-value]


def test_a_users_task_takes_options_and_partitions_its_own_data() -> None:
    made = task(f"{__name__}:Points", options={"split": "dirichlet(total=3)"})
    own = [data.worker_test_data(made, worker, 4, 1) for worker in range(4)]
    assert len({row.item() for each in own for row in each.inputs}) == sum(map(len, own))
    assert torch.equal(own[0].labels, data.worker_test_data(made, 0, 4, 1).labels)
    assert str(task(f"{__name__}:Points")) == "Points"


def test_the_task_on_the_page_of_tasks_partitions_a_table(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "partition" in code]
    found: dict[str, Any] = {}
    exec(code, found)
    table = np.column_stack([np.random.default_rng(0).random((150, 4)), np.repeat([0, 1, 2], 50)])
    np.savetxt(tmp_path / "iris.csv", table, delimiter=",")
    flowers = found["Flowers"](tmp_path / "iris.csv")
    test = data.test_data(flowers, 1)
    parts = [data.worker_data(flowers, worker, 3, 1) for worker in range(3)]
    own = [data.worker_test_data(flowers, worker, 3, 1) for worker in range(3)]
    rows = {tuple(row) for each in (*parts, *own) for row in each.inputs.tolist()}
    assert len(rows) == sum(map(len, (*parts, *own)))
    assert not {tuple(row) for each in parts for row in each.inputs.tolist()} & set(map(tuple, test.inputs.tolist()))


def test_without_a_test_set_of_its_own_a_worker_is_tested_on_the_pooled_one() -> None:
    made = task(f"{__name__}:Pooled")
    assert torch.equal(data.worker_test_data(made, 2, 3, 1).inputs, data.test_data(made, 1).inputs)


def test_what_is_no_test_set_is_refused() -> None:
    with pytest.raises(OstrakonError, match="Forgetful: worker_test_data returned a NoneType: expected Examples"):
        data.worker_test_data(task(f"{__name__}:Forgetful"), 0, 1, 1)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (f"{__name__}:Points", {"spilt": "x"}, r"unknown option of task .*Points 'spilt'; did you mean split\?"),
        (f"{__name__}:Points", {"data": "x"}, "unknown option"),
        ("linear", {"noise": 1}, "task linear takes no options, but noise was given: remove it"),
        ("femnist", {"partition": "shards"}, "unknown partition 'shards'; did you mean by_shards"),
        ("femnist", {"partition": 3}, "partition = 3 is no name"),
    ],
)
def test_an_option_that_a_task_does_not_have_is_a_sentence(
    name: str, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        task(name, options=options)
