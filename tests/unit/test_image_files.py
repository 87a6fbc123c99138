"""Images from the forms that data sets are published in: the same from each, and a sentence for what is damaged."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from tests.harness.image_files import Images, batch, idx, leaf, write_emnist, write_npz

PER_CLASS = 6
CLASSES = [y for y in range(62) for _ in range(PER_CLASS)]


def characters(m: int = len(CLASSES)) -> Images:
    images = np.random.default_rng(0).integers(0, 256, (m, 28, 28), dtype=np.uint8)
    images[:, 0, 1] = np.arange(m) % 251
    return images


def same(a: Examples, b: Examples) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)


def femnist(data: Path, **options: str) -> Any:
    return task("femnist", data, 1, options)


def test_leafs_json_and_emnists_idx_hold_what_an_npz_does(tmp_path: Path) -> None:
    images, half = characters(), len(CLASSES) // 2
    npz = femnist(write_npz(tmp_path / "all.npz", x=images, y=np.array(CLASSES))).worker_data(0, 2, 1)
    folder = tmp_path / "leaf"
    folder.mkdir()
    (folder / "all_data_0.json").write_text(leaf({"a": (images[:half], CLASSES[:half])}))
    (folder / "all_data_1.json").write_text(
        leaf({"a": (images[half:-9], CLASSES[half:-9]), "b": (images[-9:], CLASSES[-9:])})
    )
    assert same(femnist(folder).worker_data(0, 2, 1), npz)
    (tmp_path / "one.json").write_text(leaf({"a": (images, CLASSES)}))
    assert same(femnist(tmp_path / "one.json").worker_data(0, 2, 1), npz)
    for zipped in (False, True):
        place = tmp_path / f"emnist{zipped}"
        place.mkdir()
        file = write_emnist(place, "train", images, CLASSES, zipped=zipped)
        assert same(femnist(file).worker_data(0, 2, 1), npz)
        assert same(femnist(place).worker_data(0, 2, 1), npz)


def test_leafs_users_are_the_writers_of_a_partition_by_writer(tmp_path: Path) -> None:
    images = characters(60)
    users = {f"f{i}": (images[10 * i : 10 * i + 10], [i] * 10) for i in range(6)}
    (tmp_path / "all_data_0.json").write_text(leaf(users))
    made = femnist(tmp_path, partition="by_writer")
    held = [set(made.worker_data(worker, 3, 1).labels.tolist()) for worker in range(3)]
    own = [set(made.worker_test_data(worker, 3, 1).labels.tolist()) for worker in range(3)]
    assert held == own
    assert sorted(label for labels in held for label in labels) == list(range(6))
    npz = write_npz(tmp_path / "x.npz", x=images, y=np.repeat(range(6), 10), writer=np.repeat(range(6), 10))
    assert same(femnist(npz, partition="by_writer").worker_data(0, 3, 1), made.worker_data(0, 3, 1))
    unsigned = write_npz(tmp_path / "y.npz", x=images, y=np.repeat(range(6), 10))
    with pytest.raises(OstrakonError, match="do not say who made each image"):
        femnist(unsigned, partition="by_writer").worker_data(0, 3, 1)


def test_nobody_trains_on_the_test_files_of_emnist(tmp_path: Path) -> None:
    images = characters()
    write_emnist(tmp_path, "train", images, CLASSES, zipped=True)
    test = np.zeros((124, 28, 28), np.uint8)
    write_emnist(tmp_path, "test", test, [*range(62), *range(62)])
    for partition in ("uniform", "dirichlet(total=62)"):
        made = femnist(tmp_path, partition=partition)
        ink = -0.962 / 0.163
        assert made.test_data(1).inputs.eq(torch.tensor(ink)).all()
        assert not made.worker_data(0, 2, 1).inputs.flatten(1).eq(torch.tensor(ink)).all(dim=1).any()


LEAF: dict[str, Any] = json.loads(leaf({"a": (characters(2), [0, 1])}))
X = LEAF["user_data"]["a"]["x"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is damaged or no JSON"),
        ('{"users": ' + "[" * 100_000, "is damaged or no JSON"),
        ("{}", "has no users and user_data"),
        ('{"users": [], "user_data": {}}', "names no users"),
        (json.dumps(LEAF | {"users": ["b"]}), "no x and y of user 'b'"),
        (json.dumps(LEAF | {"users": [["a"]]}), "no x and y of user"),
        *(
            (json.dumps({"users": ["a"], "user_data": {"a": {"x": x, "y": y}}}), sentence)
            for x, y, sentence in (
                ([[0.5] * 783], [0], "images of 784 numbers"),
                ([X[0], X[1][1:]], [0, 1], "images of 784 numbers"),
                ([["0.5"] * 784], [0], "images of 784 numbers"),
                ([[1.5] * 784], [0], r"from 0 \(ink\) to 1"),
                ([[float("nan")] * 784], [0], r"from 0 \(ink\) to 1"),
                (X, [0, 62], "must be 0 to 61, but go from 0 to 62"),
                (X, [0], "must hold 2 integers"),
                (X, [0, 0.5], "must hold 2 integers"),
                (X, [0, "1"], "y must be a list of integers"),
            )
        ),
    ],
)
def test_json_that_is_damaged_or_something_else_is_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "all_data.json").write_text(content)
    with pytest.raises(OstrakonError, match=sentence):
        femnist(tmp_path / "all_data.json").test_data(1)


def test_idx_files_that_are_damaged_or_missing_are_a_sentence(tmp_path: Path) -> None:
    images = write_emnist(tmp_path, "train", characters(3), [0, 1, 2], zipped=True)
    whole, labels = images.read_bytes(), tmp_path / images.name.replace("images-idx3", "labels-idx1")
    for content, sentence in (
        (whole[:200], "is damaged .*gzipped"),
        (idx(characters(3))[:-1], r"its header says \(3, 28, 28\), but 2351 bytes"),
        (idx(characters(3)[:, 1:]), "expected images of 28 x 28"),
        (b"\0\0\x08\x01\0\0\0\0", "in 3 dimensions"),
        (b"\0\0\x08\x03\0\0", "in 3 dimensions"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "its header says"),
    ):
        images.write_bytes(content)
        with pytest.raises(OstrakonError, match=sentence):
            femnist(images).test_data(1)
    images.write_bytes(whole)
    labels.write_bytes(idx(np.array([0, 62, 1], np.uint8)))
    with pytest.raises(OstrakonError, match="go from 0 to 62"):
        femnist(images).test_data(1)
    labels.unlink()
    with pytest.raises(OstrakonError, match="labels-idx1-ubyte does not exist"):
        femnist(images).test_data(1)
    with pytest.raises(OstrakonError, match="has no labels beside it"):
        femnist(images.rename(tmp_path / "images")).test_data(1)


PHOTOGRAPHS = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
KINDS = [y % 10 for y in range(60)]


def batches(folder: Path) -> Path:
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(batch(PHOTOGRAPHS[:20], KINDS[:20]))
    (folder / "data_batch_2").write_bytes(batch(PHOTOGRAPHS[20:40], KINDS[20:40]))
    (folder / "test_batch").write_bytes(batch(PHOTOGRAPHS[40:], KINDS[40:]))
    return folder


def test_the_original_batches_of_cifar10_hold_what_an_npz_does(tmp_path: Path) -> None:
    original = task("cifar10", batches(tmp_path / "cifar-10-batches-py"))
    split = np.arange(60) >= 40
    npz = task("cifar10", write_npz(tmp_path / "x.npz", x=PHOTOGRAPHS, y=np.array(KINDS), test=split))
    assert same(original.worker_data(1, 2, 1), npz.worker_data(1, 2, 1))
    assert same(original.test_data(1), npz.test_data(1))
    assert len(original.test_data(1)) == 20
    trained = torch.cat([original.worker_data(worker, 2, 1).inputs for worker in range(2)])
    assert (
        len({image.numpy().tobytes() for image in trained} - {i.numpy().tobytes() for i in npz.test_data(1).inputs})
        == 40
    )


def test_photographs_are_standardised_by_channel_and_keep_their_labels(tmp_path: Path) -> None:
    shades = np.repeat(np.arange(10, dtype=np.uint8), 12)
    images = np.zeros((120, 32, 32, 3), np.uint8)
    images[:, 0, 0] = shades[:, None] * np.array([1, 2, 3])
    share = task("cifar10", write_npz(tmp_path / "x.npz", x=images, y=shades)).worker_data(0, 1, 1)
    assert share.inputs.shape == (100, 3, 32, 32)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    wanted = (share.labels[:, None] * torch.tensor([1, 2, 3]) / 255 - mean) / std
    torch.testing.assert_close(share.inputs[:, :, 0, 0], wanted)


def test_the_network_for_photographs_has_69706_parameters() -> None:
    assert FlatModel(initial_model(task("cifar10"), 1), "cpu").parameters == 69_706


class Danger:
    def __reduce__(self) -> Any:
        return print, ("this was run",)


ONE = (PHOTOGRAPHS[:1], [3])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "damaged or no pickle"),
        (batch(*ONE)[:2000], "damaged or no pickle"),
        (batch(*ONE).replace(b"u1", b"f4"), "none of unsigned bytes"),
        (batch(*ONE, reduce=b"cos\nsystem\n"), "holds the name os.system"),
        (batch(*ONE, reduce=b"cnumpy\ndtype\n"), "has no data of images"),
        (batch(*ONE, before=pickle.dumps(Danger(), protocol=2)[2:-1] + b"0"), "holds the name __builtin__.print"),
        (pickle.dumps(Danger(), protocol=4), "holds the instruction FRAME|STACK_GLOBAL"),
        (pickle.dumps({"data": [1], "labels": []}, protocol=2), "has no data of images of 3 x 32 x 32"),
        (pickle.dumps([1, 2], protocol=2), "has no data"),
        (batch(PHOTOGRAPHS[:1], [10]), "no labels from 0 to 9"),
        (batch(PHOTOGRAPHS[:1], [1, 2]), "must hold 1 integers"),
        (b"\x80\x02}(K\x01.", "damaged or no pickle"),
        (b"\x80\x02]K\x01K\x02s.", "no dictionary|none of texts|has no data"),
        (b"\x80\x02(R.", "without its values"),
    ],
)
def test_batches_are_never_unpickled_and_what_is_none_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(OstrakonError, match=sentence):
        task("cifar10", tmp_path).test_data(1)
    assert capsys.readouterr().out == ""


def test_a_folder_or_file_of_something_else_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OstrakonError, match=r"expected all_data\*\.json of LEAF, or the IDX files"):
        femnist(tmp_path).test_data(1)
    with pytest.raises(OstrakonError, match="holds no batches of CIFAR-10"):
        task("cifar10", tmp_path).test_data(1)
    with pytest.raises(OstrakonError, match=r"x must be uint8 of shape \(N, 32, 32, 3\)"):
        task("cifar10", write_npz(tmp_path / "x.npz", x=characters(9), y=np.arange(9))).test_data(1)
    wrong = write_npz(tmp_path / "y.npz", x=PHOTOGRAPHS, y=np.array(KINDS), test=np.zeros(60))
    with pytest.raises(OstrakonError, match="test must hold 60 bool"):
        task("cifar10", wrong).test_data(1)
    marked = write_npz(tmp_path / "z.npz", x=PHOTOGRAPHS, y=np.array(KINDS), test=np.ones(60, bool))
    with pytest.raises(OstrakonError, match="60 leave none for each of 3 workers; use a larger file, or fewer workers"):
        task("cifar10", marked).worker_data(0, 3, 1)
