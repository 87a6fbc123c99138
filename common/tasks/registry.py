"""From the setting `task` to a task. Only the module of the task that was named is imported."""

import contextlib
import importlib
import inspect
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import unknown
from ostrakon.common.tasks.contract import Task
from ostrakon.common.tasks.streams import TASK, seed_generators
from ostrakon.common.tasks.user_code import UserCodeFailed, user_code
from ostrakon.common.traces import last_line, place

_BUILT_IN = {
    "glyphs": "ostrakon.common.tasks.glyphs:Glyphs",
    "linear": "ostrakon.common.tasks.linear:Linear",
    "femnist": "ostrakon.common.tasks.femnist:Femnist",
    "cifar10": "ostrakon.common.tasks.cifar10:Cifar10",
}
_READING_DATA = ("femnist", "cifar10")


def task(name: str, data: Path | None = None, seed: int = 1, options: Mapping[str, Any] | None = None) -> Task:
    """Make the task called `name`.

    Args:
        name: glyphs, linear, femnist, cifar10, or `package.module:MyTask`, looked up in the current directory too.
        data: file or folder for a task that reads one.
        seed: of what a user's module draws when it is imported, or the task when it is made.
        options: what the task's `__init__` takes by name beside `data`.

    Raises:
        OstrakonError: nothing has this name, its module cannot be imported, it is no usable `Task`, or it cannot use
            `data` or an option.
    """
    if data is not None and name in _BUILT_IN and name not in _READING_DATA:
        raise OstrakonError(f"task {name} makes its own data, but data = {data} was given: remove the setting data")
    seed_generators(torch.device("cpu"), seed, TASK)
    found = _named(name)
    try:
        with user_code(f"task {name!r}"):
            _check_options(name, found, options or {})
            return found(data, **(options or {}))
    except UserCodeFailed as error:
        if "positional argument" in str(error):
            raise OstrakonError(
                f"{error}: write `def __init__(self, data=None)`, and super().__init__(data)"
            ) from error
        raise


def takes(name: str, option: str) -> bool:
    """Whether the task called `name` takes an option, as far as its parameters say.

    Raises:
        OstrakonError: as `task`, for the name.
    """
    known = _options(_named(name))
    return known is None or option in known


def _check_options(name: str, found: type[Task], options: Mapping[str, Any]) -> None:
    known = _options(found)
    if known is None:
        return
    for option in options:
        if option not in known:
            if not known:
                raise OstrakonError(f"task {name} takes no options, but {option} was given: remove it")
            raise unknown(f"option of task {name}", option, known)


def _options(found: type[Task]) -> list[str] | None:
    """The names of the options that a task takes; None where it takes any, and looks at them itself."""
    parameters = list(inspect.signature(found).parameters.values())
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    by_place = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return [*by_place[1:], *(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)]  # the first is data


def _named(name: str) -> type[Task]:
    if name not in _BUILT_IN:
        if ":" not in name:
            raise unknown("task", name, (*_BUILT_IN, "package.module:MyTask"))
        if ".py:" in name:
            raise OstrakonError(f"task {name!r}: write {name.replace('.py:', ':')}, the module without its .py")
    return _find(_BUILT_IN.get(name, name))


def _find(name: str) -> type[Task]:
    module_name, _, class_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    module = _import(name, module_name)
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Task)):
        where = getattr(module, "__file__", None) or f"module {module_name}"
        what = "has no such class" if found is None else f"{class_name} is no subclass of ostrakon.Task"
        raise OstrakonError(f"task {name!r}: {where} {what}")
    if inspect.isabstract(found):
        raise OstrakonError(
            f"task {name!r}: {class_name} must also define {', '.join(sorted(found.__abstractmethods__))}"
        )
    return found


def _import(name: str, module_name: str) -> ModuleType:
    """Import a module that may do anything meanwhile: print, read the command line, exit.

    Raises:
        OstrakonError: it cannot be imported.
    """
    said, arguments = io.StringIO(), sys.argv
    sys.argv = [module_name]  # these words are not for the module
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise OstrakonError(
            f"task {name!r}: there is no module {error.name!r}: save it in this folder ({Path.cwd()}) or install it"
        ) from error
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        words = said.getvalue().strip().splitlines() if isinstance(error, SystemExit) else []
        after = f" after printing {words[-1]!r}" if words else ""
        raise OstrakonError(
            f"task {name!r}: module {module_name!r} cannot be imported: {last_line(error)}{after}{place(error)}"
        ) from error
    finally:
        sys.argv = arguments
        if said.getvalue():
            print(said.getvalue(), end="", file=sys.stderr)
