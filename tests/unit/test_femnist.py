"""FEMNIST from a file: every worker its own images, and one sentence for a file that cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import Examples
from ostrakon.common.tasks.registry import task

Arrays = dict[str, NDArray[Any]]
PER_CLASS = 12


def same(a: Examples, b: Examples) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)


def rows(*examples: Examples) -> set[bytes]:
    return {row.numpy().tobytes() for part in examples for row in part.inputs}


@pytest.fixture
def arrays() -> Arrays:
    y = np.tile(np.arange(62), PER_CLASS).astype(np.uint8)
    x = np.random.default_rng(0).integers(0, 256, (len(y), 28, 28), dtype=np.uint8)
    x[:, 0, 0] = y
    return {"x": x, "y": y, "writer": np.arange(len(y))}


def save(folder: Path, arrays: Arrays) -> Path:
    np.savez(folder / "some.npz", **arrays)
    return folder / "some.npz"


def test_femnist_gives_every_worker_its_own_images_and_tests_on_others(tmp_path: Path, arrays: Arrays) -> None:
    femnist = task("femnist", save(tmp_path, arrays))
    shares, test = [femnist.worker_data(worker, 3, 1) for worker in range(3)], femnist.test_data(1)
    assert len(rows(*shares, test)) == sum(map(len, shares)) + len(test)
    for share in shares:
        assert share.labels.bincount().tolist() == [(PER_CLASS - 2) // 3] * 62
    assert test.labels.bincount().tolist() == [2] * 62
    assert same(shares[0], task("femnist", femnist.data).worker_data(0, 3, 1))
    assert not same(shares[0], femnist.worker_data(0, 3, 2))


def test_femnist_keeps_images_and_labels_together_and_standardises(tmp_path: Path, arrays: Arrays) -> None:
    share = task("femnist", save(tmp_path, arrays)).worker_data(0, 1, 1)
    assert share.inputs.shape[1:] == (1, 28, 28)
    torch.testing.assert_close(share.inputs[:, 0, 0, 0], (share.labels / 255 - 0.962) / 0.163)


def test_femnist_lets_a_rare_class_be_rare_and_a_common_one_not_dominate(tmp_path: Path, arrays: Arrays) -> None:
    y = np.concatenate([arrays["y"], np.zeros(200, np.uint8)])
    x = np.concatenate([arrays["x"], np.zeros((200, 28, 28), np.uint8)])
    counts = task("femnist", save(tmp_path, {"x": x, "y": y})).worker_data(0, 2, 1).labels.bincount().tolist()
    assert counts == [15] + [(PER_CLASS - 2) // 2] * 61


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": None}, "has no array x"),
        ({"y": None}, "has no array y"),
        ({"x": np.zeros((744, 28, 28))}, r"x must be uint8 of shape \(N, 28, 28\), but is float64"),
        ({"x": np.zeros((744, 784), np.uint8)}, r"but is uint8 of \(744, 784\)"),
        ({"y": np.zeros(743, np.uint8)}, r"y must hold 744 integers.*\(743,\)"),
        ({"y": np.zeros(744)}, r"y must hold 744 integers.*float64"),
        ({"y": np.full(744, 62)}, "0 to 61, but go from 62 to 62"),
        ({"y": np.full(744, -1)}, "0 to 61, but go from -1 to -1"),
        ({"x": np.zeros((0, 28, 28), np.uint8), "y": np.zeros(0, int)}, "too few images"),
        ({"x": np.array([{}])}, "damaged or is no npz"),
    ],
)
def test_a_file_that_femnist_cannot_use_is_refused_with_a_sentence(
    tmp_path: Path, arrays: Arrays, change: dict[str, NDArray[Any] | None], sentence: str
) -> None:
    changed = {key: value for key, value in (arrays | change).items() if value is not None}
    with pytest.raises(OstrakonError, match=sentence):
        task("femnist", save(tmp_path, changed)).worker_data(0, 2, 1)


def test_too_many_workers_for_the_file_are_refused(tmp_path: Path, arrays: Arrays) -> None:
    with pytest.raises(OstrakonError, match="744 leave none for each of 35 workers"):
        task("femnist", save(tmp_path, arrays)).worker_data(0, 35, 1)


def test_a_missing_or_damaged_file_is_refused_with_a_sentence(tmp_path: Path, arrays: Arrays) -> None:
    whole = save(tmp_path, arrays).read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2], whole[:5000] + bytes(64) + whole[5064:]):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(OstrakonError, match="damaged or is no npz"):
            task("femnist", tmp_path / "damaged.npz").test_data(1)
    np.save(tmp_path / "single.npy", arrays["x"])
    with pytest.raises(OstrakonError, match="has no array x"):
        task("femnist", tmp_path / "single.npy").test_data(1)
    with pytest.raises(OstrakonError, match="does not exist"):
        task("femnist", tmp_path / "absent.npz").test_data(1)
    with pytest.raises(OstrakonError, match="is damaged"):
        task("femnist", tmp_path).test_data(1)
    with pytest.raises(OstrakonError, match="set data to the path"):
        task("femnist").test_data(1)
