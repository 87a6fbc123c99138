"""What a model's state dict holds beside theta, which no update changes: it makes what a run leaves loadable."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.common.safetensors_file import Tensor, open_safetensors, stored_tensors, write_safetensors

ALIASES = "aliases"  # the metadata key that keeps which names are second ones of which


@dataclass(frozen=True)
class FixedPart:
    """What a model's state dict holds beside theta, and no update changes.

    Attributes:
        aliases: further names of tied parameters -> the name in the layout.
        constants: frozen parameters and persistent buffers.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    constants: tuple[Tensor, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.aliases or self.constants)

    def digest(self) -> str:
        """The name of the constants: SHA-256 over `["NAME","TYPE",[SHAPE]]` and bytes of each, by name; "" for none.

        Workers that hold the same theta compute the same only where these are the same too.
        """
        if not self.constants:
            return ""
        sha256 = hashlib.sha256()
        for tensor in sorted(self.constants, key=lambda one: one.name):
            sha256.update(json.dumps([tensor.name, tensor.dtype, tensor.shape], separators=(",", ":")).encode("ascii"))
            for block in tensor.blocks:
                sha256.update(block.data)
        return sha256.hexdigest()


NOTHING_FIXED = FixedPart()


def write_fixed_part(path: Path, fixed: FixedPart) -> None:
    """Write a fixed part alone, durably.

    Raises:
        OstrakonError: there is no space left, or the folder cannot be written.
    """
    write_safetensors(path, fixed.constants, {ALIASES: json.dumps(dict(fixed.aliases))})


def read_fixed_part(path: Path) -> FixedPart:
    """Read what `write_fixed_part` wrote; the values are read from the file when they are asked for.

    Raises:
        OstrakonError: the file is missing or damaged.
    """
    with open_safetensors(path, advice="put the run's folder back from a backup") as file:
        aliases = read_aliases(path, (file.metadata() or {}).get(ALIASES, "{}"))
        return FixedPart(aliases, tuple(stored_tensors(path, sorted(file.keys()))))


def read_aliases(path: Path, text: str) -> dict[str, str]:
    """Second names of tied parameters, from a file's metadata.

    Raises:
        OstrakonError: they cannot be read.
    """
    try:
        return {str(name): str(first) for name, first in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise OstrakonError(
            f"model file {path} is damaged: it names second names that cannot be read ({error})"
        ) from None
