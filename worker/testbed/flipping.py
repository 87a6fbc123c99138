"""Label flipping (LF): a lie in what a worker trains on."""

from collections.abc import Callable
from functools import partial

from ostrakon.common.schedule import Schedule
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.data import flipped
from ostrakon.common.tasks.feed import Feed
from ostrakon.common.wire import Vector
from ostrakon.worker.attacks import Attack
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.training import Momentum


class Flipped:
    """The batches of a feed with their labels flipped."""

    def __init__(self, feed: Feed, flip: Callable[[Examples], Examples]) -> None:
        self._feed, self._flip = feed, flip

    def batch(self, purpose: int, round: int) -> Examples:
        """The mini-batch of a round."""
        return self._flip(self._feed.batch(purpose, round))


class FlippingLearner(LocalLearner):
    """Trains on flipped labels in the rounds in which the attack is LF; votes on the true ones."""

    def __init__(self, settings: WorkerSettings, task: Task, attacks: Schedule[Attack]) -> None:
        """Builds the model.

        Raises:
            OstrakonError: the device or the task's model cannot be used.
        """
        super().__init__(settings, task)
        self._attacks = attacks

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        """m_t; the same when asked again for a round and base."""
        attack = self._attacks.at(round)
        self._training.examples = self._flipped if attack is not None and attack.flips_labels else self._true
        return super().momentum(round, base, theta)

    def _rehearse(self, examples: Examples, position: int) -> None:
        self._try(training=self._placed(examples), flipped=self._flip(examples, position))

    def _take(self, own: Examples, position: int, feed: Feed | None) -> None:
        super()._take(own, position, feed)
        flip = partial(self._flip, worker=position)
        self._true = self._training.examples
        self._flipped = flip(own) if feed is None else Flipped(feed, flip)

    def _flip(self, examples: Examples, worker: int) -> Examples:
        return self._placed(flipped(self._task, examples, worker, self._settings.seed))
