"""A worker's own computing: honest, or as an attack has it."""

from common.device import resolve_device
from common.flat_model import FlatModel
from common.settings import WorkerSettings
from common.tasks.contract import Examples, Task, initial_model
from common.wire import Vector
from worker.attacks import Attack, attack
from worker.sampling import ATTACK, generator, place
from worker.training import Momentum, Training
from worker.voting import Ballot, Voter, worst


class LocalLearner:
    """Trains and votes on this worker's examples of a task."""

    def __init__(self, settings: WorkerSettings, task: Task) -> None:
        """Builds the model.

        Raises:
            OstrakonError: the device, the attack or the task's model cannot be used.
        """
        self._settings = settings
        self._task = task
        self._attack: Attack | None = None if settings.attack is None else attack(settings.attack)
        self._model = FlatModel(initial_model(task, settings.seed), resolve_device(settings.device))
        self._place: tuple[int, int] | None = None
        self._sent: tuple[tuple[int, str], Momentum] | None = None

    @property
    def parameters(self) -> int:
        """d."""
        return self._model.parameters

    def begin(self, position: int, workers: int) -> None:
        """Take the examples of this place on the roster; the momentum starts at 0 if the place is a new one."""
        if self._place == (position, workers):
            return
        settings = self._settings
        examples = place(self._task.worker_data(position, workers, settings.seed), self._model.theta.device)
        shown = examples
        if self._attack is not None and self._attack.flips_labels:
            shown = Examples(examples.inputs, self._task.flip(examples.labels))
        self._training = Training(
            self._task,
            shown,
            self._model,
            batch=settings.batch,
            beta=settings.beta,
            seed=settings.seed,
            worker=position,
        )
        self._voter = Voter(
            self._task,
            examples,
            self._model,
            batch=settings.vote_batch,
            seed=settings.seed,
            worker=position,
            criterion=settings.vote,
        )
        self._place = (position, workers)

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        """m_t, or what the attack makes of it; the same bytes whenever it is asked again for a round and base."""
        true = self._training.momentum(round, base, theta)
        if self._attack is None or not true.finite or self._place is None:
            return true
        if self._sent is None or self._sent[0] != (round, base):
            random = generator(self._settings.seed, ATTACK, self._place[0], round)
            self._sent = (round, base), Momentum(self._attack.send(true.vector, random), true.loss, True)
        return self._sent[1]

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        """The vote; a Byzantine worker's is for the larger loss."""
        ballot = self._voter.judge(round, inner, outer)
        return ballot if self._attack is None else worst(ballot)
