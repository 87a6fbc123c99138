"""Model files are whole or absent, are what they are named, and are plain safetensors."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.layout import Layout, parameters
from ostrakon.common.model_file import read_model, write_model
from ostrakon.server.storage.model_store import ModelKey, ModelStore, initial_key

LAYOUT: Layout = (("z.weight", (3, 2)), ("scale", ()), ("a.bias", (5,)))
D = 12


def vector(seed: int, d: int = D) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(d, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_model_comes_back_as_it_was_written(path: Path) -> None:
    theta = vector(1)
    write_model(path, theta, LAYOUT, {"task": "linear"})
    found = read_model(path)
    assert found.theta.tobytes() == theta.tobytes()
    assert found.layout == LAYOUT
    assert found.metadata == {"task": "linear"}
    assert names(path.parent) == ["model.safetensors"]


def test_a_model_file_loads_into_the_model_by_name(path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.PReLU())
    layout = tuple((name, tuple(value.shape)) for name, value in model.named_parameters())
    theta = vector(2, parameters(layout))
    write_model(path, theta, layout, {})
    model.load_state_dict(safetensors.torch.load_file(path))
    flat = torch.cat([value.detach().reshape(-1) for value in model.parameters()])
    assert flat.numpy().tobytes() == theta.tobytes()


def test_theta_and_layout_must_fit_together(path: Path) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        write_model(path, vector(1, D + 1), LAYOUT, {})
    assert not path.exists()


def test_a_missing_model_file_is_named(path: Path) -> None:
    with pytest.raises(OstrakonError, match=r"model\.safetensors does not exist"):
        read_model(path)


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_model_file_cut_off_anywhere_is_refused(path: Path, length: int) -> None:
    write_model(path, vector(1), LAYOUT, {})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(OstrakonError, match="damaged"):
        read_model(path)


def test_a_model_file_of_another_precision_is_refused(path: Path) -> None:
    write_model(path, vector(1), LAYOUT, {})
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(tensors, path, metadata)
    with pytest.raises(OstrakonError, match="F64"):
        read_model(path)


def test_a_model_file_without_an_order_of_parameters_is_refused(path: Path) -> None:
    safetensors.numpy.save_file({"weight": vector(1)}, path)
    with pytest.raises(OstrakonError, match="order"):
        read_model(path)


def test_a_layout_that_lies_about_the_file_is_refused(path: Path) -> None:
    safetensors.numpy.save_file({"weight": vector(1)}, path, {"layout": '[["other",[12]]]'})
    with pytest.raises(OstrakonError, match="damaged"):
        read_model(path)
    safetensors.numpy.save_file({"weight": vector(1)}, path, {"layout": '[["weight",[6]]]'})
    with pytest.raises(OstrakonError, match="expected F32"):
        read_model(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_refused(path: Path, value: float) -> None:
    theta = vector(1)
    theta[7] = value
    write_model(path, theta, LAYOUT, {})
    with pytest.raises(OstrakonError, match=r"a\.bias holds values that are not finite"):
        read_model(path)


def test_the_largest_finite_values_are_finite(path: Path) -> None:
    theta = np.full(D, np.finfo(np.float32).max, dtype=np.float32)
    write_model(path, theta, LAYOUT, {})
    assert read_model(path).theta.tobytes() == theta.tobytes()


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (errno.ENOSPC, "no space left for"),
        (errno.EDQUOT, "no space left for"),
        (errno.EROFS, "no right to write"),
        (errno.EACCES, "no right to write"),
        (errno.EIO, "the disk fails at"),
    ],
)
def test_a_disk_that_takes_no_model_leaves_the_old_one_and_no_temporary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, reason: int, sentence: str
) -> None:
    old = vector(1)
    write_model(path, old, LAYOUT, {})

    def full(descriptor: int) -> None:
        raise OSError(reason, os.strerror(reason))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OstrakonError, match=rf"{sentence} .*model.safetensors.*nothing committed is lost"):
            write_model(path, vector(2), LAYOUT, {})
    assert read_model(path).theta.tobytes() == old.tobytes()
    assert names(path.parent) == ["model.safetensors"]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(OstrakonError, match="cannot be written"):
        write_model(tmp_path / "nowhere" / "model.safetensors", vector(1), LAYOUT, {})


def test_a_file_is_flushed_before_it_is_named_and_its_folder_after(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_model(path, vector(1), LAYOUT, {})
    assert steps == ["file", "rename", "folder"]


def test_the_running_sum_starts_at_zero_and_adds_every_model_after_theta_0(store: ModelStore) -> None:
    d = (1 << 18) + 3  # more than one block
    thetas = [vector(seed, d) for seed in range(3)]
    key = store.write(thetas[0], None)
    assert key == initial_key(digest(thetas[0]), d)
    expected = np.zeros(d)
    for theta in thetas[1:]:
        key = store.write(theta, store.read(key).running_sum)
        expected = expected + theta
    stored = store.read(key)
    assert key == ModelKey(digest(thetas[2]), digest(expected))
    assert stored.theta.tobytes() == thetas[2].tobytes()
    assert stored.running_sum.tobytes() == expected.tobytes()


def test_a_stored_model_is_a_plain_safetensors_file(store: ModelStore) -> None:
    theta, before = vector(1), np.arange(D, dtype=np.float64)
    key = store.write(theta, before)
    found = safetensors.numpy.load_file(store.path(key))
    assert sorted(found) == ["running_sum", "theta"]
    assert found["theta"].tobytes() == theta.tobytes()
    assert found["running_sum"].tobytes() == (before + theta).tobytes()


def test_a_candidate_equal_to_the_committed_model_does_not_replace_it(store: ModelStore) -> None:
    theta = vector(1)
    committed = store.write(theta, np.zeros(D))
    candidate = store.write(theta, store.read(committed).running_sum)
    assert candidate.digest == committed.digest
    store.delete(candidate)
    assert store.read(committed).running_sum.tobytes() == theta.astype(np.float64).tobytes()


def test_writing_a_model_again_changes_nothing(store: ModelStore) -> None:
    key = store.write(vector(1), np.zeros(D))
    content = store.path(key).read_bytes()
    assert store.write(vector(1), np.zeros(D)) == key
    assert store.path(key).read_bytes() == content


def test_vectors_of_another_type_or_length_are_programming_errors(store: ModelStore) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        store.write(np.zeros(D), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected float64"):
        store.write(vector(1), np.zeros(D + 1))


@pytest.mark.parametrize("position", [-1, -D * 4 - 1])
def test_a_flipped_byte_in_theta_or_in_the_sum_is_found(store: ModelStore, position: int) -> None:
    key = store.write(vector(1), np.zeros(D))
    content = bytearray(store.path(key).read_bytes())
    content[position] ^= 1
    store.path(key).write_bytes(content)
    with pytest.raises(OstrakonError, match=rf"{key.digest}.*damaged.*backup"):
        store.read(key)


def test_a_missing_model_is_named(store: ModelStore) -> None:
    with pytest.raises(OstrakonError, match=r"abc.*does not exist.*backup"):
        store.read(ModelKey("abc", "def"))


def test_pruning_keeps_what_it_is_told_and_sweeps_what_a_crash_left(store: ModelStore) -> None:
    keys = [store.write(vector(seed), np.zeros(D)) for seed in range(4)]
    folder = store.path(keys[0]).parent
    left = folder / f".{store.path(keys[0]).name}.{'0' * 32}.tmp"
    left.write_bytes(b"half")
    store.prune(keys[2:])
    assert names(folder) == sorted(store.path(key).name for key in keys[2:])


def test_deleting_a_model_twice_is_fine(store: ModelStore) -> None:
    key = store.write(vector(1), None)
    store.delete(key)
    store.delete(key)
    assert not store.path(key).exists()
