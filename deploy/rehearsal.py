"""What a run is made of, tried before any of its processes is started: rule, attacks, and a batch through the task."""

from pathlib import Path

from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.layout import difference
from ostrakon.common.model_file import read_model
from ostrakon.common.runtime import prepare
from ostrakon.common.tasks.contract import Examples
from ostrakon.common.tasks.data import flipped, test_data, worker_data
from ostrakon.common.tasks.feed import trained_on
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from ostrakon.common.tasks.rehearsal import rehearse
from ostrakon.deploy.goal import read_goal
from ostrakon.deploy.launch_settings import check_parts
from ostrakon.deploy.run_folder import EVALUATOR, Collusion, collusion, roster
from ostrakon.deploy.settings import RunSettings
from ostrakon.worker.attacks import attack_schedule
from ostrakon.worker.evaluator.measure import own_measures
from ostrakon.worker.own_data import data_of
from ostrakon.worker.sampling import place

_FEW = 8  # test examples that show by what a task is measured


def rehearse_run(settings: RunSettings, initial: Path) -> Collusion | None:
    """Send a batch through all that the run's processes will ask of the task: its data, model, losses, label flips.

    Args:
        initial: the model that the run starts or started from, if there is one yet.

    Returns:
        Which liars need an adversary; None if nobody does.

    Raises:
        OstrakonError: the rule, an attack or the task cannot be used; or its model is another one than `initial`.
    """
    prepare(1)
    check_parts(settings)
    seed, device = settings.seed, resolve_device(settings.device)
    own, common = (data_of(settings.data, id) for id in (roster(settings)[-1], EVALUATOR))
    made = task(settings.task, own, seed, settings.options)
    tested = made if own == common else task(settings.task, common, seed, settings.options)
    model = FlatModel(initial_model(made, seed), device)
    if initial.exists():
        _check_same_model(settings, initial, model)
    test = place(test_data(tested, seed), device)
    last = settings.workers - 1
    held = worker_data(made, last, settings.workers, seed)
    training = place(trained_on(made, held, last, settings.workers, settings.batch, seed), device)
    schedules = [attack_schedule(liars.attack) for liars in settings.liars()]
    flips = any(attack.flips_labels for schedule in schedules for attack in schedule.all())
    rehearse(
        made,
        model,
        seed=seed,
        training=training,
        flipped=flipped(made, training, last, seed) if flips else None,
        test=test,
        batch=settings.batch,
        vote_batch=settings.vote_batch,
        precision=settings.precision,
    )
    if settings.until is not None:
        few = Examples(test.inputs[:_FEW], test.labels[:_FEW])
        read_goal(settings.until).check(own_measures(tested, model, model.theta.cpu().numpy(), few).values)
    return collusion(settings)


def _check_same_model(settings: RunSettings, initial: Path, model: FlatModel) -> None:
    started = read_model(initial)
    other = difference(started.layout, model.layout, f"task {settings.task}")
    if not other and started.fixed and started.fixed.digest() != model.fixed().digest():
        other = f"the frozen parameters or buffers of task {settings.task} have other values than this run's model"
    if other:
        raise OstrakonError(f"{other}: this run was started with another model; start another run with RUN=NAME")
