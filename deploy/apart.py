"""Work done in a process of its own: torch is loaded where it is forked from, and whatever it does ends with it."""

import importlib
import json
import os
from multiprocessing.connection import Connection
from typing import Any

from ostrakon.common.errors import OstrakonError, file_trouble
from ostrakon.common.fork_server import CONTEXT
from ostrakon.deploy.processes import death

_END_SECONDS = 5.0  # for a process that has nothing more to say


def apart(what: str, function: str, *arguments: Any) -> Any:
    """Call a function in a process of its own; returns what it returns, which has to be plain JSON.

    The task's code is called so: it may print, end its process, crash, or start threads. The launcher goes on.

    Args:
        what: what it does, as in `the rehearsal of task mine:Task`.
        function: `module:function`, which is not imported here: torch would come with it.

    Raises:
        OstrakonError: the function raised one, could not use a file, or ended its process without an answer.
    """
    hearing, telling = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_answer, args=(telling, function, arguments), name="apart")
    process.start()
    telling.close()
    try:
        answer = json.loads(hearing.recv_bytes())
    except EOFError:
        process.join(_END_SECONDS)
        raise OstrakonError(f"{what}: its process {death(process.exitcode or 0)} before it had an answer") from None
    finally:
        process.kill()
        process.join()
        hearing.close()
    if "error" in answer:
        raise OstrakonError(answer["error"])
    return answer["found"]


def _answer(telling: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    os.dup2(2, 1)  # what a task prints is no result of the command
    module, _, name = function.partition(":")
    try:
        answer = {"found": getattr(importlib.import_module(module), name)(*arguments)}
    except OstrakonError as error:
        answer = {"error": str(error)}
    except OSError as error:
        trouble = file_trouble(error)
        if trouble is None:
            raise
        answer = {"error": trouble}
    telling.send_bytes(json.dumps(answer).encode())
