"""A worker's own computing."""

from functools import partial

from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Ballot
from ostrakon.common.criteria import CRITERIA
from ostrakon.common.device import resolve_device
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.layout import Layout
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.data import DataNotReadable, worker_data
from ostrakon.common.tasks.feed import Feed, gives_batches, trained_on
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.precision import check_precision
from ostrakon.common.tasks.rehearsal import rehearse
from ostrakon.common.wire import Vector
from ostrakon.worker.sampling import SECOND_MOMENTUM, place
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.training import Momentum, Training
from ostrakon.worker.voting import Voter


class LocalLearner:
    """Trains and votes on this worker's examples of a task."""

    def __init__(self, settings: WorkerSettings, task: Task) -> None:
        """Builds the model.

        Raises:
            OstrakonError: the device or the task's model cannot be used.
        """
        self._settings = settings
        self._task = task
        self._model = FlatModel(initial_model(task, settings.seed), resolve_device(settings.device))
        check_precision(settings.precision, self._model.theta.device)
        self._try = partial(
            rehearse,
            task,
            self._model,
            seed=settings.seed,
            batch=settings.batch,
            vote_batch=settings.vote_batch,
            precision=settings.precision,
        )
        self.constants = self._model.fixed().digest()
        self._place: tuple[int, int] | None = None
        self._rehearsed = False

    @property
    def layout(self) -> Layout:
        """Which parameter lies where in theta."""
        return self._model.layout

    def rehearse(self) -> None:
        """Send one batch through all of the task's code before there is a place on a roster: as the only worker.

        Raises:
            OstrakonError: the code raises or breaks the contract. Data that cannot be read are no matter yet.
        """
        try:
            examples = self._trained_on(worker_data(self._task, 0, 1, self._settings.seed), 0, 1)
        except DataNotReadable:
            return
        self._rehearse(examples, 0)
        self._rehearsed = True

    def begin(self, position: int, workers: int) -> None:
        """Take the examples of this place on the roster; the momentum starts at 0 if the place is a new one.

        Where there were no data to rehearse with before, that is done now.

        Raises:
            DataNotReadable: they are missing or damaged; they may be there later.
            OstrakonError: the task's code is wrong.
        """
        if self._place == (position, workers):
            return
        own = worker_data(self._task, position, workers, self._settings.seed)
        examples = self._trained_on(own, position, workers)
        if not self._rehearsed:
            self._rehearse(examples, position)
            self._rehearsed = True
        feed = None
        if gives_batches(self._task):
            feed = Feed(self._task, position, workers, self._settings.batch, self._settings.seed)
        self._take(own, position, feed)
        self._place = (position, workers)

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        """m_t; the same when asked again for a round and base."""
        return self._training.momentum(round, base, theta)

    def prepare(self, round: int, base: str, theta: Vector, taken: Step) -> None:
        """What the vote needs and does not have to wait for the candidates; nothing new when asked again."""
        self._voter.prepare(round, base, theta, taken)

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        """The vote."""
        return self._voter.judge(round, inner, outer)

    def _trained_on(self, own: Examples, position: int, workers: int) -> Examples:
        return trained_on(self._task, own, position, workers, self._settings.batch, self._settings.seed)

    def _rehearse(self, examples: Examples, position: int) -> None:
        self._try(training=self._placed(examples))

    def _take(self, own: Examples, position: int, feed: Feed | None) -> None:
        settings, examples = self._settings, self._placed(own)
        train = partial(
            Training,
            self._task,
            feed or examples,
            self._model,
            batch=settings.batch,
            beta=settings.beta,
            seed=settings.seed,
            worker=position,
            clip=settings.clip,
            precision=settings.precision,
        )
        self._training = train()
        asked = None
        match CRITERIA[settings.vote].asks:
            case "own momentum":
                asked = self._training
            case "second momentum":
                asked = train(purpose=SECOND_MOMENTUM)
        self._voter = Voter(
            self._task,
            examples,
            self._model,
            batch=settings.vote_batch,
            seed=settings.seed,
            worker=position,
            criterion=settings.vote,
            asked=asked,
        )

    def _placed(self, examples: Examples) -> Examples:
        return place(examples, self._model.theta.device)
