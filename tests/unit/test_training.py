"""Local momentum, its mini-batches, and the measurement of models."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostrakon.common.algorithm import clip
from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.precision import LossScale
from ostrakon.common.tasks.registry import task
from ostrakon.worker.evaluator.measure import measure
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.sampling import ATTACK, TRAINING, VOTE, draw, generator, place
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.training import Training
from tests.unit.small_task import ImageTask, SmallTask

Vector = NDArray[np.float32]


def flat(task: SmallTask) -> FlatModel:
    return FlatModel(initial_model(task, seed=1), "cpu")


def model_of(task: SmallTask) -> Vector:
    return flat(task).theta.numpy()


def training(task: SmallTask, *, beta: float = 0.9, worker: int = 0, batch: int = 16, seed: int = 1) -> Training:
    return Training(
        task, task.worker_data(worker, 4, seed), flat(task), batch=batch, beta=beta, seed=seed, worker=worker
    )


def gradient_by_autograd(task: SmallTask, theta: Vector, examples: Examples) -> Vector:
    module = initial_model(task, seed=9)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(theta.copy()), module.parameters())
    loss = task.losses(module(examples.inputs), examples.labels).mean()
    gradients = torch.autograd.grad(loss, tuple(module.parameters()))
    return np.concatenate([gradient.numpy().ravel() for gradient in gradients])


def test_momentum_folds_in_each_rounds_gradient() -> None:
    task, beta = SmallTask(), 0.8
    worker = training(task, beta=beta, batch=100)  # the whole data: every round has the same examples
    expected = np.zeros(27, np.float32)
    for round in range(1, 4):
        theta = model_of(task) * round
        expected = beta * expected + (1 - beta) * gradient_by_autograd(task, theta, task.worker_data(0, 4, 1))
        found = worker.momentum(round, f"base {round}", theta)
        np.testing.assert_allclose(found.vector, expected, rtol=1e-5, atol=1e-7)
        assert found.finite
        assert found.vector.dtype == np.float32 and found.vector.flags.c_contiguous


def test_a_gradient_that_is_longer_than_the_clip_is_scaled_down_to_it() -> None:
    task = SmallTask()
    theta, data = model_of(task), task.worker_data(0, 4, 1)
    gradient = gradient_by_autograd(task, theta, data)
    length = float(np.linalg.norm(gradient))
    for norm, expected in ((length / 2, gradient / 2), (length * 2, gradient)):
        worker = Training(task, data, flat(task), batch=100, beta=0, seed=1, worker=0, clip=norm)
        np.testing.assert_allclose(worker.momentum(1, "base", theta).vector, expected, rtol=1e-5, atol=1e-7)


def test_a_gradient_whose_squares_float32_cannot_hold_is_clipped_all_the_same() -> None:
    clipped = clip(torch.full((2, 4), 1e30), 3.0)
    torch.testing.assert_close(clipped, torch.full((2, 4), 1.5))
    assert torch.equal(clip(torch.zeros(3), 1.0), torch.zeros(3))
    assert not clip(torch.tensor([1.0, torch.inf]), 1.0).isfinite().all()


def test_images_give_the_same_gradient() -> None:
    task = ImageTask()
    theta = model_of(task)
    expected = gradient_by_autograd(task, theta, task.worker_data(0, 4, 1))
    found = training(task, beta=0, batch=100).momentum(1, "base", theta)
    np.testing.assert_allclose(found.vector, expected, rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_the_mini_batch_at_the_base_model() -> None:
    task = SmallTask()
    found = training(task, batch=100).momentum(1, "base", np.zeros(27, np.float32))
    assert found.loss == pytest.approx(np.log(3), abs=1e-6)


def test_a_round_asked_for_again_is_not_trained_again() -> None:
    task = SmallTask()
    worker, theta = training(task), model_of(task)
    first = worker.momentum(1, "base", theta)
    bytes_sent = first.vector.tobytes()
    assert worker.momentum(1, "base", theta) is first
    assert first.vector.tobytes() == bytes_sent


def test_another_base_of_the_same_round_is_trained() -> None:
    task = SmallTask()
    worker, theta = training(task), model_of(task)
    first = worker.momentum(1, "base", theta).loss
    assert worker.momentum(1, "another base", -theta).loss != first


def test_a_gradient_that_is_not_finite_leaves_the_momentum_untouched() -> None:
    task = SmallTask()
    worker, theta = training(task), model_of(task)
    before = worker.momentum(1, "base", theta).vector.copy()
    broken = worker.momentum(2, "broken", np.full(27, np.nan, np.float32))
    assert not broken.finite
    assert np.isnan(broken.loss)
    np.testing.assert_array_equal(broken.vector, before)
    after = worker.momentum(3, "base", theta)
    assert after.finite and np.isfinite(after.vector).all()


def test_a_mini_batch_depends_on_nothing_that_was_trained_before() -> None:
    task = SmallTask()
    theta = model_of(task)
    experienced = training(task, beta=0)
    for round in range(1, 6):
        experienced.momentum(round, "base", theta)
    torch.manual_seed(77)
    restarted = training(task, beta=0)
    np.testing.assert_array_equal(
        experienced.momentum(6, "base", theta).vector, restarted.momentum(6, "base", theta).vector
    )


def test_every_round_worker_seed_and_purpose_has_draws_of_its_own() -> None:
    streams = [(1, TRAINING, 0, 1), (2, TRAINING, 0, 1), (1, VOTE, 0, 1), (1, ATTACK, 0, 1), (1, TRAINING, 1, 1)]
    streams += [(1, TRAINING, 0, 2), (1, TRAINING, 1, 0), (1, TRAINING, 0, 0)]
    assert len({generator(*stream).bytes(16) for stream in streams}) == len(streams)


def test_a_mini_batch_holds_different_examples_and_their_labels() -> None:
    examples = Examples(torch.arange(20.0).unsqueeze(1), torch.arange(20))
    batch = draw(examples, 19, np.random.default_rng(3))
    assert len(set(batch.labels.tolist())) == len(batch) == 19
    np.testing.assert_array_equal(batch.inputs.squeeze(1).numpy(), batch.labels.numpy())


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    examples = Examples(torch.arange(5.0).unsqueeze(1), torch.arange(5))
    assert draw(examples, 16, np.random.default_rng(3)).labels.tolist() == [0, 1, 2, 3, 4]


def test_drawn_images_are_laid_out_as_the_task_made_them() -> None:
    fast = task("glyphs").worker_data(0, 4, 1)
    assert fast.inputs.stride() == (784, 1, 28, 1)
    drawn = draw(place(fast, torch.device("cpu")), 4, np.random.default_rng(0))
    assert drawn.inputs.stride() == drawn.copy().inputs.stride() == (784, 1, 28, 1)
    plain = Examples(torch.randn(30, 3, 8, 8), torch.zeros(30))
    assert draw(plain, 4, np.random.default_rng(0)).inputs.is_contiguous()


def test_examples_in_place_are_not_copied() -> None:
    placed = place(ImageTask().worker_data(0, 4, 1), torch.device("cpu"))
    again = place(placed, torch.device("cpu"))
    assert again.inputs.data_ptr() == placed.inputs.data_ptr()


def test_a_model_of_another_task_is_refused() -> None:
    with pytest.raises(OstrakonError, match="27 parameters"):
        training(SmallTask()).momentum(1, "base", np.zeros(5, np.float32))


def test_a_measurement_covers_every_block_of_the_test_set() -> None:
    task = SmallTask()
    theta, examples = model_of(task), task.test_data(1)
    scores = examples.inputs.numpy() @ theta[:24].reshape(3, 8).T + theta[24:]
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(1100), examples.labels.numpy()]
    found = measure(task, flat(task), theta, examples)
    assert found.accuracy == pytest.approx((scores.argmax(axis=1) == examples.labels.numpy()).mean())
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)


def test_a_model_that_is_not_finite_answers_nothing_rightly() -> None:
    task = SmallTask()
    found = measure(task, flat(task), np.full(27, np.nan, np.float32), task.test_data(1))
    assert found.accuracy == 0
    assert np.isnan(found.loss)


def test_auto_takes_the_gpu_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda") == torch.device("cuda")
    with pytest.raises(OstrakonError, match="'cuda:1', but torch finds 1 GPU"):
        resolve_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta"])
def test_a_device_of_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(OstrakonError, match="use auto, cpu, cuda"):
        resolve_device(name)


@pytest.mark.parametrize("kind", [SmallTask, ImageTask])
def test_half_precision_is_near_and_is_for_training_alone(kind: type[SmallTask]) -> None:
    task = kind()
    theta = model_of(task)
    found = {}
    for precision in ("float32", "bf16"):
        worker = LocalLearner(WorkerSettings(device="cpu", precision=precision, beta=0.0), task)
        worker.rehearse()
        worker.begin(0, 4)
        found[precision] = worker.momentum(1, "base", theta), worker.judge(1, theta, -theta)
    (whole, ballot), (half, same_ballot) = found["float32"], found["bf16"]
    assert half.vector.dtype == np.float32 and half.loss == pytest.approx(whole.loss, rel=0.02)
    assert not np.array_equal(half.vector, whole.vector)
    assert np.linalg.norm(half.vector - whole.vector) < 0.02 * np.linalg.norm(whole.vector)
    assert same_ballot == ballot


def test_losses_of_half_precision_are_computed_from_float32() -> None:
    seen = []

    class Watching(SmallTask):
        def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
            seen.append(outputs.dtype)
            return super().losses(outputs, labels)

    task = Watching()
    data = task.worker_data(0, 4, 1)
    half = Training(task, data, flat(task), batch=8, beta=0, seed=1, worker=0, precision="bf16")
    half.momentum(1, "base", model_of(task))
    assert seen == [torch.float32]


def test_float16_without_a_gpu_is_refused_in_a_sentence() -> None:
    with pytest.raises(OstrakonError, match=r"precision = 'float16' needs a GPU, and this computes on cpu: use bf16"):
        LocalLearner(WorkerSettings(device="cpu", precision="float16"), SmallTask())


def test_a_loss_scale_is_halved_until_no_gradient_overflows_and_grows_again() -> None:
    scale, tried = LossScale(), []

    def scaled(largest: float) -> torch.Tensor:
        tried.append(scale.value)
        return torch.tensor([largest * scale.value if scale.value <= 2**14 else torch.inf])

    while not scale.settle(gradient := scaled(3.0)):
        pass
    assert tried == [2**16, 2**15, 2**14] and gradient.item() == 3
    for _ in range(1999):
        assert scale.settle(scaled(3.0))
    assert scale.value == 2**15
    while not scale.settle(torch.tensor([torch.nan])):  # nothing helps
        pass
    assert scale.value == 1


@pytest.mark.parametrize("magnified", [1.0, 1e-6, 3e4])
def test_a_float16_gradient_neither_vanishes_nor_overflows(monkeypatch: pytest.MonkeyPatch, magnified: float) -> None:
    """On a CPU, which can compute so, though slowly: with these losses, unscaled float16 loses the gradient."""
    monkeypatch.setattr("ostrakon.common.tasks.passes.check_precision", lambda precision, device: None)

    class Magnified(ImageTask):
        def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
            return magnified * super().losses(outputs, labels)

    task = Magnified()
    theta, data = model_of(task), task.worker_data(0, 4, 1)
    whole, half = (
        Training(task, data, flat(task), batch=100, beta=0, seed=1, worker=0, precision=kind).momentum(1, "base", theta)
        for kind in ("float32", "float16")
    )
    assert half.finite and half.loss == pytest.approx(whole.loss, rel=0.01)
    assert np.linalg.norm(half.vector - whole.vector) < 0.01 * np.linalg.norm(whole.vector)
