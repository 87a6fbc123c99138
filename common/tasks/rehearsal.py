"""A few batches through all of a task's code, before anybody waits for it: what cannot work is a sentence at once."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.setting_types import Precision
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.data import check_alike
from ostrakon.common.tasks.measures import Totals
from ostrakon.common.tasks.passes import Draw, Passes, initial_model

REHEARSAL = 15  # the purpose of its draws
TEST_BLOCK = 512  # examples measured at once: bounds the memory of a pass over any test set
_ELSEWHERE = 0.05  # how far from theta_0 a used model is compared with a new one

_LET_FORGET = (
    "let forward and losses depend on nothing that an earlier call left behind, and draw random numbers from the "
    "global generators of torch, numpy or random only"
)


def rehearse(
    task: Task,
    model: FlatModel,
    *,
    seed: int,
    training: Examples | None = None,
    flipped: Examples | None = None,
    test: Examples | None = None,
    batch: int = 16,
    vote_batch: int = 64,
    precision: Precision = "float32",
) -> None:
    """Run what a worker does with `training` examples, a liar with `flipped` ones, and an evaluator with `test`.

    Args:
        model: the task's for this seed, where the computing is done; it is left with theta as it was.
        batch, vote_batch: examples in a mini-batch.
        precision: of training.

    Raises:
        OstrakonError: the task's code raises or breaks the contract, or what it computes does not follow from the
            model, the batch and the seed.
    """
    with _one_thread(), warnings.catch_warnings():
        warnings.filterwarnings("error", "Using a target size")  # torch, of labels that it spreads over outputs
        passes, theta = Passes(task, model, precision), model.theta.clone()
        if training is not None:
            _train(passes, theta, _first(training, batch), seed)
            _check_repeatable(passes, theta, _first(training, vote_batch), seed, training=False)
        if flipped is not None:
            try:
                passes.gradient(theta, _first(flipped, batch), Draw(seed, REHEARSAL))
            except OstrakonError as error:
                raise OstrakonError(f"on flipped labels (LF): {error}; define `flip`") from error
        if test is not None:
            _check_repeatable(passes, theta, _first(test, TEST_BLOCK), seed, training=False)
            for size in sorted({min(TEST_BLOCK, len(test)), len(test) % TEST_BLOCK} - {0}):
                totals = Totals()
                totals.add(*passes.measures(theta, _first(test, size), Draw(seed, REHEARSAL)))
                totals.finish(task)
        if training is not None and test is not None:
            check_alike(training, test)
        model.state.forget_written()
        _compare_with_a_new_one(task, passes, theta, training, test, seed, batch, precision)
        model.load(theta)


def _train(passes: Passes, theta: Tensor, batch: Examples, seed: int) -> None:
    _check_repeatable(passes, theta, batch, seed, training=True)
    gradient = passes.model.gradient
    if not gradient.any():
        raise OstrakonError(
            "the gradient of the losses is zero for every parameter of the task's model: compute the losses from the "
            "outputs, and the outputs from the parameters"
        )


def _check_repeatable(passes: Passes, theta: Tensor, batch: Examples, seed: int, *, training: bool) -> None:
    """Check that a pass depends on nothing that the one before left behind."""
    state, draw = passes.model.state, Draw(seed, REHEARSAL)
    of = passes.gradient if training else passes.loss
    first = of(theta, batch, draw)
    passes.model.check_parameters()
    written = state.written()
    if any(buffer.is_floating_point() or buffer.is_complex() for buffer in written):
        raise OstrakonError(
            "the task's model writes into a floating-point buffer in its forward, or replaces it, which nobody would "
            "agree on: keep constants only in buffers, and use no layer with running statistics"
        )
    if written:
        state.keep_written()
    _expect_same(passes.model, first, of(theta, batch, draw), "a batch", "the second time")


def _compare_with_a_new_one(
    task: Task,
    passes: Passes,
    theta: Tensor,
    training: Examples | None,
    test: Examples | None,
    seed: int,
    batch: int,
    precision: Precision,
) -> None:
    """Check that a model that has been used computes as one that was just made, also where theta is another."""
    model = passes.model
    new = Passes(task, FlatModel(initial_model(task, seed), theta.device), precision)
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(seed)).to(theta)
    elsewhere, draw = theta + _ELSEWHERE * noise, Draw(seed, REHEARSAL, 1)
    examples = test if training is None else training
    if examples is None or new.model.layout != model.layout:
        return
    last = Examples(examples.inputs[-batch:], examples.labels[-batch:])
    _expect_same(model, new.loss(elsewhere, last, draw), passes.loss(elsewhere, last, draw), "a batch", "once used")
    if training is not None:
        first, again = new.gradient(elsewhere, last, draw), passes.gradient(elsewhere, last, draw)
        _expect_same(model, first, again, "a batch in training", "once used")
        if model.theta.device.type == "cpu" and not torch.equal(new.model.gradient, model.gradient):
            raise OstrakonError(f"the task's model has another gradient once it has been used: {_LET_FORGET}")


def _expect_same(model: FlatModel, first: float, again: float, what: str, when: str) -> None:
    # On a GPU sums of one batch may differ in their last bits.
    close = first == again if model.theta.device.type == "cpu" else math.isclose(first, again, rel_tol=1e-3)
    if not close and not (math.isnan(first) and math.isnan(again)):
        raise OstrakonError(
            f"the task's model gives {what} a loss of {first!r}, and {when} of {again!r}, with the same weights and "
            f"seeds: {_LET_FORGET}"
        )


def _first(examples: Examples, size: int) -> Examples:
    return Examples(examples.inputs[:size], examples.labels[:size])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads may differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
