"""From the setting `task` to a task. Only the module of the task that was named is imported."""

import importlib
import inspect
import sys
from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import unknown
from ostrakon.common.tasks.contract import Task

_BUILT_IN = {
    "glyphs": "ostrakon.common.tasks.glyphs:Glyphs",
    "linear": "ostrakon.common.tasks.linear:Linear",
    "femnist": "ostrakon.common.tasks.femnist:Femnist",
}
_READING_DATA = ("femnist",)


def task(name: str, data: Path | None = None) -> Task:
    """Make the task called `name`.

    Args:
        name: glyphs, linear, femnist, or `package.module:MyTask`, looked up in the current directory too.
        data: file or folder for a task that reads one.

    Raises:
        OstrakonError: nothing has this name, it is no usable `Task`, or it cannot use `data`.
    """
    if name in _BUILT_IN:
        if data is not None and name not in _READING_DATA:
            raise OstrakonError(f"task {name} makes its own data, but data = {data} was given: remove the setting data")
        return _find(_BUILT_IN[name])(data)
    if ":" not in name:
        raise unknown("task", name, (*_BUILT_IN, "package.module:MyTask"))
    return _find(name)(data)


def _find(name: str) -> type[Task]:
    module_name, _, class_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise OstrakonError(
            f"task {name!r}: there is no module {error.name!r}: save it in this folder ({Path.cwd()}) or install it"
        ) from error
    except Exception as error:  # a user's module may raise anything while it is imported
        raise OstrakonError(f"task {name!r}: module {module_name!r} cannot be imported ({error!r})") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Task)):
        what = "has no such class" if found is None else f"{class_name} is no subclass of ostrakon.Task"
        raise OstrakonError(f"task {name!r}: {module.__file__} {what}")
    if inspect.isabstract(found):
        raise OstrakonError(
            f"task {name!r}: {class_name} must also define {', '.join(sorted(found.__abstractmethods__))}"
        )
    return found
