"""Hugging Face's `Trainer`: pip install 'ostrakon[transformers]'."""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ostrakon.worker.callbacks.steps import By, Steps
from ostrakon.worker.embedded.worker import Worker


class TransformersCallback(TrainerCallback):
    """Lets a `Trainer` take part in a run, with the model that `worker` was made with.

    Its batches, accumulation and clipping are used, its optimizer and schedule are not: the step is the server's. With
    `max_steps=worker.rounds` it ends with the run.

    Args:
        worker: one that has been entered.
        by: called once a round, for what its vote goes by: see `Round.vote`.
    """

    def __init__(self, worker: Worker, by: By) -> None:
        self._steps = Steps(worker, by)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin with the committed model."""
        self._steps.next()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **_: Any
    ) -> None:
        """Take part with the gradients that are there."""
        self._steps.take(model)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Go on with the next round, or end with the run."""
        over = not self._steps.next()  # after the last step, too: the model is then the committed one
        control.should_training_stop = control.should_training_stop or over
