"""Label flipping (LF): a lie in what a worker trains on."""

from ostrakon.common.schedule import Schedule
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.data import flipped
from ostrakon.common.wire import Vector
from ostrakon.worker.attacks import Attack
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.training import Momentum


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

    def _take(self, own: Examples, position: int) -> None:
        super()._take(own, position)
        self._true, self._flipped = self._training.examples, self._flip(own, position)

    def _flip(self, examples: Examples, position: int) -> Examples:
        return self._placed(flipped(self._task, examples, position, self._settings.seed))
