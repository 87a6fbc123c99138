"""A worker's own computing."""

from ostrakon.common.device import resolve_device
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.settings import WorkerSettings
from ostrakon.common.tasks.contract import Examples, Task, initial_model
from ostrakon.common.wire import Vector
from ostrakon.worker.attacks import attack_schedule
from ostrakon.worker.sampling import place
from ostrakon.worker.training import Momentum, Training
from ostrakon.worker.voting import Ballot, Voter


class LocalLearner:
    """Trains and votes on this worker's examples of a task."""

    def __init__(self, settings: WorkerSettings, task: Task) -> None:
        """Builds the model.

        Raises:
            OstrakonError: the device, the attack or the task's model cannot be used.
        """
        self._settings = settings
        self._task = task
        self._attacks = attack_schedule(settings.attack)
        self._model = FlatModel(initial_model(task, settings.seed), resolve_device(settings.device))
        self._place: tuple[int, int] | None = None

    @property
    def parameters(self) -> int:
        """d."""
        return self._model.parameters

    def begin(self, position: int, workers: int) -> None:
        """Take the examples of this place on the roster; the momentum starts at 0 if the place is a new one."""
        if self._place == (position, workers):
            return
        settings = self._settings
        self._examples = place(self._task.worker_data(position, workers, settings.seed), self._model.theta.device)
        self._flipped = self._examples
        if any(attack.flips_labels for attack in self._attacks.all()):
            self._flipped = Examples(self._examples.inputs, self._task.flip(self._examples.labels))
        self._training = Training(
            self._task,
            self._examples,
            self._model,
            batch=settings.batch,
            beta=settings.beta,
            seed=settings.seed,
            worker=position,
        )
        self._voter = Voter(
            self._task,
            self._examples,
            self._model,
            batch=settings.vote_batch,
            seed=settings.seed,
            worker=position,
            criterion=settings.vote,
        )
        self._place = (position, workers)

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        """m_t, trained on flipped labels while the attack is LF; the same when asked again for a round and base."""
        attack = self._attacks.at(round)
        self._training.examples = self._flipped if attack is not None and attack.flips_labels else self._examples
        return self._training.momentum(round, base, theta)

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        """The vote."""
        return self._voter.judge(round, inner, outer)
