"""One batch through all of a task's code, before anybody waits for it: what cannot work is a sentence at once."""

import math

import torch

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.data import check_alike
from ostrakon.common.tasks.passes import Draw, Passes

REHEARSAL = 15  # the purpose of its draws
TEST_BLOCK = 512  # examples measured at once: bounds the memory of a pass over any test set


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
) -> None:
    """Run what a worker does with `training` examples, a liar with `flipped` ones, and an evaluator with `test`.

    Args:
        model: the task's, where the computing is done; it is left with theta as it was.
        batch, vote_batch: examples in a mini-batch.

    Raises:
        OstrakonError: the task's code raises or breaks the contract, or what it computes does not follow from the
            model, the batch and the seed.
    """
    passes = Passes(task, model)
    theta = model.theta.clone()
    frozen = {name: value.clone() for name, value in model.frozen().items()}
    for examples in (training, flipped):
        if examples is not None:
            _check_repeatable(passes, theta, _first(examples, batch), seed, training=True)
    if training is not None:
        _check_repeatable(passes, theta, _first(training, vote_batch), seed, training=False)
    if test is not None:
        _check_repeatable(passes, theta, _first(test, TEST_BLOCK), seed, training=False)
        blocks = {min(TEST_BLOCK, len(test)), len(test) % TEST_BLOCK} - {0}
        for size in sorted(blocks):
            passes.answers(theta, _first(test, size), Draw(seed, REHEARSAL))
    if training is not None and test is not None:
        check_alike(training, test)
    for name, value in model.frozen().items():
        if not torch.equal(value, frozen[name]):
            raise OstrakonError(
                f"the task's model writes into its parameter {name}, which requires no gradient and so must stay what "
                "it is: let it require one, or compute what changes in forward"
            )
    model.load(theta)


def _check_repeatable(passes: Passes, theta: torch.Tensor, batch: Examples, seed: int, *, training: bool) -> None:
    """Check that a pass depends on nothing that an earlier one left behind."""
    of = passes.gradient if training else passes.loss
    draw = Draw(seed, REHEARSAL)
    first = of(theta, batch, draw)
    written = passes.model.written()
    if any(buffer.is_floating_point() for buffer in written):
        raise OstrakonError(
            "the task's model writes into a floating-point buffer in its forward, which nobody would agree on: keep "
            "constants only in buffers"
        )
    if written:
        passes.model.keep_written()
    again = of(theta, batch, draw)
    if passes.model.theta.device.type == "cpu" and not (first == again or (math.isnan(first) and math.isnan(again))):
        raise OstrakonError(
            f"the task's model gives a batch a loss of {first!r} and then of {again!r}, with the same weights and "
            "seeds: let forward and losses depend on nothing that an earlier call left behind, and draw random numbers "
            "from the global generators of torch, numpy or random only"
        )


def _first(examples: Examples, size: int) -> Examples:
    return Examples(examples.inputs[:size], examples.labels[:size])
