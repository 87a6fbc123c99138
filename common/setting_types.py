"""What a setting can be: numbers that a machine can work with, addresses, ids. Settings are made of these."""

import math
import os
import struct
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from ostrakon.common.ids import check_id

MOST_WORKERS = 1024  # on a roster
_LARGEST = 2**63 - 1  # what files and messages can hold
_LONGEST = 1e9  # seconds: 31 years; any clock can wait for so long
_MANY = 10**15  # of what is only counted
_HELD = 2**24  # of what is held in memory
_MOST_OPTIONS = 100


class Settings(BaseModel):
    """What all settings of a process have in common: none is unknown, infinite, or more than anything can hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _can_be_held(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"expected a number of at most {_LARGEST}")
        if isinstance(value, Path) and not _can_be_a_path(value):
            raise ValueError("too long a path: expected at most 4095 bytes, and 255 between two slashes")
        if isinstance(value, str | Path):
            text = str(value)
            if "\0" in text or (not text.isascii() and not is_unicode(text)):
                raise ValueError("expected a text without bytes that stand for no letter")
        return value


def is_unicode(text: str) -> bool:
    """Whether a text can be written to a file: a path of the system may hold bytes that stand for no letter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _can_be_a_path(path: Path) -> bool:
    """Whether a file of this name can be: longer ones, no system takes."""
    return len(os.fsencode(path)) < 4096 and all(len(os.fsencode(part)) < 256 for part in path.parts)


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError("expected HOST:PORT, as in 127.0.0.1:7433")
    return value


def check_float32(value: float) -> float:
    """Refuse a number that float32 cannot hold; raises ValueError."""
    try:
        held = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        held = 0.0
    if not held:
        raise ValueError("float32, in which models are computed, cannot hold it: expected about 1e-45 to 3.4e38")
    return value


def _options(values: dict[str, Any]) -> dict[str, Any]:
    if len(values) > _MOST_OPTIONS:
        raise ValueError(f"expected at most {_MOST_OPTIONS} of them")
    for name, value in values.items():
        if not name.isidentifier() or len(name) > _MOST_OPTIONS:
            raise ValueError(f"expected names as Python's parameters have them, found {name[:_MOST_OPTIONS]!r}")
        if not isinstance(value, bool | int | float | str):
            raise ValueError(f"expected true, false, a number or a text, but {name} is a {type(value).__name__}")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"expected a number of at most {_LARGEST}, but {name} is greater")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"expected a finite number, but {name} is {value}")
        if isinstance(value, str) and ("\0" in value or not is_unicode(value)):
            raise ValueError(f"expected a text without bytes that stand for no letter, but {name} has some")
    return values


Address = Annotated[str, AfterValidator(_address)]
Id = Annotated[str, AfterValidator(check_id)]
Norm = Annotated[float, Field(gt=0, le=_LONGEST)]  # of a vector
Seconds = Annotated[float, Field(gt=0, le=_LONGEST)]
SecondsOrNone = Annotated[float, Field(ge=0, le=_LONGEST)]  # 0: no time at all
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy can be seeded with
Count = Annotated[int, Field(ge=1, le=_MANY)]
Batch = Annotated[int, Field(ge=1, le=_HELD)]
Precision = Literal["float32", "bf16", "float16"]
Threads = Annotated[int, Field(ge=0, le=1024)]
Workers = Annotated[int, Field(ge=1, le=MOST_WORKERS)]
FewerWorkers = Annotated[int, Field(ge=0, le=MOST_WORKERS)]
Options = Annotated[dict[str, Any], AfterValidator(_options)]  # of a task: parameters of the function that makes it
Ids = Annotated[tuple[Id, ...], Field(max_length=MOST_WORKERS)]
