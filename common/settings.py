"""What the settings of all processes share: how they are read from TOML, and those that several processes have.

Each setting is declared once, in the `settings` module of its owner: `server`, `worker`, `worker.testbed`, `deploy`.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import Field, ValidationError

from ostrakon.common.errors import OstrakonError
from ostrakon.common.setting_types import Count, Settings, Threads
from ostrakon.common.toml_file import read_toml

_ITS_OWN: Any = object()  # the default of the setting's owner


def same_as(owner: type[Settings], name: str, *, default: Any = _ITS_OWN, description: str | None = None) -> Any:
    """A field that is a setting of another owner: its limits, default and description, unless others are given."""
    declared = owner.model_fields[name]
    field = Field(declared.default if default is _ITS_OWN else default, description=description or declared.description)
    field.metadata = list(declared.metadata)
    return field


class TlsFiles(Settings):
    """Where a process finds its certificate, its key and the authority it trusts (PEM)."""

    ca: Path
    certificate: Path
    key: Path


class Machine(Settings):
    """Where a process computes; `cuda:1` is one of several cards."""

    device: str = Field("auto", description="auto, cpu, cuda")
    threads: Threads = Field(0, description="threads of this process; 0 means one per core")


class Waiting(Settings):
    """How long those are waited for who do not come."""

    absent_after: Count = Field(3, description="rounds missed in a row after which a worker is not waited for")


_LONGEST_SHOWN = 200  # characters of a value

S = TypeVar("S", bound=Settings)


def read(kind: type[S], path: Path) -> S:
    """Read one process's settings from a TOML file.

    Raises:
        OstrakonError: the file is missing, is not TOML, or holds a setting that is unknown or unusable.
    """
    return build(kind, read_toml(path), source=str(path))


def passed_on(kind: type[S], whole: Settings, **own: Any) -> S:
    """One process's settings: what the whole has under the same names, and what is the process's own."""
    shared = kind.model_fields.keys() & type(whole).model_fields.keys()
    return kind(**{name: getattr(whole, name) for name in shared} | own)


def build(kind: type[S], values: dict[str, Any], *, source: str) -> S:
    """Check plain values into settings; `source` says where they came from.

    Raises:
        OstrakonError: one sentence for the first value that cannot be used.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise OstrakonError(f"{source}: {_sentence(kind, error)}") from None


def _sentence(kind: type[Settings], error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda found: found["type"] == "missing")  # what is missing may be there, misspelt
    name = ".".join(str(part) for part in first["loc"])
    inside = _inside(kind, first["loc"])
    if first["type"] == "extra_forbidden":
        known = sorted(inside.model_fields)
        near = get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"unknown setting {name!r}{hint} (known: {', '.join(known)})"
    if first["type"] == "missing":
        description = inside.model_fields[str(first["loc"][-1])].description
        return f"setting {name} is missing" + (f": {description}" if description else "")
    message = first["msg"].removeprefix("Value error, ")
    if not name:
        return message
    return f"setting {name} = {_shown(first['input'])} cannot be used: {message[0].lower()}{message[1:]}"


def _inside(kind: type[Settings], place: tuple[int | str, ...]) -> type[Settings]:
    """The settings in which something was found: those of a table where it stands in one."""
    field = kind.model_fields.get(str(place[0])) if place else None
    return (field and _table(field.annotation)) or kind


def _table(annotation: Any) -> type[Settings] | None:
    """The settings that a type holds, as in `TlsFiles | None` and `tuple[Liars, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table(part))), None)


def _shown(value: Any) -> str:
    """A value for a sentence, cut where it is long."""
    try:
        text = repr(str(value) if isinstance(value, Path) else value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
