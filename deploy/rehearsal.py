"""A task rehearsed in a process of its own, before any process of a run is started.

User code may do anything: raise, print, end its process, crash, start threads. None of it happens to the launcher.
"""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.common.runtime import prepare
from ostrakon.common.settings import RunSettings
from ostrakon.deploy.processes import CONTEXT, death

_END_SECONDS = 5.0  # for a process that has nothing more to say


def rehearse(settings: RunSettings, initial: Path) -> None:
    """Send a batch through all that the run's processes will ask of the task: its data, model, losses, label flips.

    Args:
        initial: the model that the run starts or started from, if there is one yet.

    Raises:
        OstrakonError: the task cannot be used, in one sentence; or its model is another one than `initial`.
    """
    hearing, telling = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_rehearse, args=(settings, initial, telling), name="rehearsal")
    process.start()
    telling.close()
    try:
        sentence = hearing.recv_bytes().decode()
    except EOFError:
        process.join(_END_SECONDS)
        how = death(process.exitcode or 0)
        raise OstrakonError(
            f"task {settings.task!r}: the process that rehearsed it {how} before its code had answered"
        ) from None
    finally:
        process.kill()
        process.join()
    if sentence:
        raise OstrakonError(sentence)


def _rehearse(settings: RunSettings, initial: Path, telling: Connection) -> None:
    os.dup2(2, 1)  # what the task prints is no result of the command
    try:
        prepare(1)
        _perform(settings, initial)
    except OstrakonError as error:
        telling.send_bytes(str(error).encode("utf-8", "replace"))
    else:
        telling.send_bytes(b"")


def _perform(settings: RunSettings, initial: Path) -> None:
    from ostrakon.common.device import resolve_device
    from ostrakon.common.flat_model import FlatModel
    from ostrakon.common.layout import difference
    from ostrakon.common.model_file import read_model
    from ostrakon.common.tasks.data import flipped, test_data, worker_data
    from ostrakon.common.tasks.passes import initial_model
    from ostrakon.common.tasks.registry import task
    from ostrakon.common.tasks.rehearsal import rehearse
    from ostrakon.worker.attacks import attack_schedule
    from ostrakon.worker.sampling import place

    seed, device = settings.seed, resolve_device(settings.device)
    made = task(settings.task, settings.data, seed)
    model = FlatModel(initial_model(made, seed), device)
    if initial.exists():
        started = read_model(initial)
        other = difference(started.layout, model.layout, f"task {settings.task}")
        if not other and started.fixed and started.fixed.digest() != model.fixed().digest():
            other = f"the frozen parameters or buffers of task {settings.task} have other values than this run's model"
        if other:
            raise OstrakonError(f"{other}: this run was started with another model; start another run with RUN=NAME")
    test = place(test_data(made, seed), device)
    last = settings.workers - 1
    training = place(worker_data(made, last, settings.workers, seed), device)
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
    )
