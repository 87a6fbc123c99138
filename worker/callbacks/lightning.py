"""Lightning's `Trainer`: pip install 'ostrakon[lightning]'."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ostrakon.worker.callbacks.steps import By, Steps
from ostrakon.worker.embedded.worker import Worker


class LightningCallback(Callback):
    """Lets a `Trainer` take part in a run, with the `LightningModule` that `worker` was made with.

    Its batches and accumulation are used, its optimizer is not: the step is the server's. With
    `max_steps=worker.rounds` it ends with the run. Lightning clips gradients after this callback: clip in
    `on_after_backward` instead.

    Args:
        worker: one that has been entered.
        by: called once a round, for what its vote goes by: see `Round.vote`.
    """

    def __init__(self, worker: Worker, by: By) -> None:
        self._steps = Steps(worker, by)
        self._taken = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the committed model."""
        trainer.should_stop = not self._steps.next()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Take part with the gradients that are there."""
        self._steps.take(pl_module)
        self._taken = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Go on with the next round after a step, or end with the run."""
        if self._taken:
            self._taken = False
            over = not self._steps.next()  # after the last step, too: the model is then the committed one
            trainer.should_stop = trainer.should_stop or over
