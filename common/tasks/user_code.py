"""A user's code, called: whatever it does instead of answering becomes one sentence that says where."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import ContractBroken
from ostrakon.common.traces import last_line, place


class UserCodeFailed(OstrakonError):
    """User code raised something.

    Attributes:
        cause: what it raised.
    """

    def __init__(self, sentence: str, cause: BaseException) -> None:
        super().__init__(sentence)
        self.cause = cause


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Around a call of user code; `what` says which, as in `task Mine: losses`.

    An `OstrakonError` passes: that is a task which says in its own words what it misses. So does a lack of memory.

    Raises:
        ContractBroken: what the code gave is not what the contract says.
        UserCodeFailed: it raised, or wanted to end the process.
    """
    try:
        yield
    except ContractBroken as error:
        raise ContractBroken(f"{what}: {error}{place(error)}") from error
    except (OstrakonError, MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):  # torch's, on a CPU
            raise MemoryError(str(error)) from error
        raise UserCodeFailed(f"{what}: {last_line(error)}{place(error)}", error) from error
