"""Examples as a task gives them, each call seeded, caught, and what comes back checked against the contract."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import ContractBroken, Examples, Task, described
from ostrakon.common.tasks.streams import FLIPPED, TEST, WORKERS, seed_generators
from ostrakon.common.tasks.user_code import UserCodeFailed, user_code

_CPU = torch.device("cpu")
_GLOBAL = 1  # apart from the streams of `streams.stream`, which built-in tasks draw from

# What a program that is wrong raises; anything else may be the fault of a file that is missing or damaged.
_FAULTS_OF_THE_CODE = (NameError, TypeError, AttributeError, ImportError, SyntaxError)


class DataNotReadable(OstrakonError):
    """A worker's data are missing or damaged; they may be there later. The sentence says what was found."""


def worker_data(task: Task, worker: int, workers: int, seed: int) -> Examples:
    """The examples of worker number `worker` of `workers`.

    Raises:
        DataNotReadable: the task cannot read them.
        OstrakonError: its code is wrong.
    """
    seed_generators(_CPU, seed, WORKERS, worker, _GLOBAL)
    what = f"task {type(task).__name__}: worker_data"
    with reading(what):
        found = task.worker_data(worker, workers, seed)
    return _checked(found, what)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Around a call of user code that reads data; `what` says which, as of `user_code`.

    Raises:
        DataNotReadable: it cannot read them.
        OstrakonError: the code is wrong.
    """
    try:
        with user_code(what):
            yield
    except UserCodeFailed as error:
        if isinstance(error.cause, _FAULTS_OF_THE_CODE):
            raise
        raise DataNotReadable(str(error)) from error
    except ContractBroken:
        raise
    except OstrakonError as error:
        raise DataNotReadable(str(error)) from error


def test_data(task: Task, seed: int) -> Examples:
    """The examples on which committed models are measured.

    Raises:
        OstrakonError: the task cannot read or make them.
    """
    seed_generators(_CPU, seed, TEST, 0, _GLOBAL)
    what = f"task {type(task).__name__}: test_data"
    with user_code(what):
        found = task.test_data(seed)
    return _checked(found, what)


def worker_test_data(task: Task, worker: int, workers: int, seed: int) -> Examples:
    """The examples on which a model is measured for worker number `worker` of `workers`.

    Raises:
        OstrakonError: the task cannot read or make them.
    """
    if type(task).worker_test_data is Task.worker_test_data:
        return test_data(task, seed)
    seed_generators(_CPU, seed, TEST, 1 + worker, _GLOBAL)
    what = f"task {type(task).__name__}: worker_test_data"
    with user_code(what):
        found = task.worker_test_data(worker, workers, seed)
    return _checked(found, what)


def own_test_data(task: Task, workers: int, seed: int, common: Examples) -> list[Examples] | None:
    """The test set of each worker, or None where all of them are measured on the common one.

    Args:
        common: what `test_data` gives.

    Raises:
        OstrakonError: the task cannot read or make them, or they are of another kind than the common one.
    """
    if type(task).worker_test_data is Task.worker_test_data:
        return None
    found = []
    for worker in range(workers):
        own = worker_test_data(task, worker, workers, seed)
        check_alike(own, common, "worker_test_data")
        same = torch.equal(own.labels, common.labels) and torch.equal(own.inputs, common.inputs)
        found.append(common if same else own)
    return None if all(own is common for own in found) else found


def flipped(task: Task, examples: Examples, worker: int, seed: int) -> Examples:
    """The same examples with the labels that a label-flipping worker (LF) trains on.

    Raises:
        OstrakonError: the task's `flip` cannot flip them, or makes other labels than labels.
    """
    seed_generators(_CPU, seed, FLIPPED, worker)
    what = f"task {type(task).__name__}: flip"
    with user_code(what):
        labels = task.flip(examples.labels.clone())
    if described(labels) != described(examples.labels):
        raise OstrakonError(
            f"{what} made {described(labels)} of {described(examples.labels)} labels: it has to return labels of the "
            "same shape and type"
        )
    return Examples(examples.inputs, labels)


def check_alike(training: Examples, test: Examples, method: str = "worker_data", other: str = "test_data") -> None:
    """Check that what is trained on and what is measured on are of one kind.

    Args:
        method, other: of the task, which gave the first and the second.

    Raises:
        OstrakonError: naming both sides.
    """
    for name, here, there in (
        ("inputs", training.inputs, test.inputs),
        ("labels", training.labels, test.labels),
    ):
        if (here.dtype, here.dim()) != (there.dtype, there.dim()):
            raise OstrakonError(
                f"{method} gives {name} {described(here)}, {other} {described(there)}: both need the same type "
                "and as many dimensions"
            )


def _checked(found: object, what: str) -> Examples:
    if not isinstance(found, Examples):
        raise OstrakonError(
            f"{what} returned a {described(found)}: expected Examples, as in `return Examples(inputs, labels)`"
        )
    return found
