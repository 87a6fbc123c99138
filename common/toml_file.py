"""Files of settings as people's editors write them: TOML in UTF-8, with a byte order mark or without."""

import codecs
import tomllib
from pathlib import Path
from typing import Any

from ostrakon.common.errors import OstrakonError, readable

_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark its own begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OstrakonError: it is missing, is in another encoding, or is no TOML.
    """
    name = readable(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        why = "is a link to nowhere" if path.is_symlink() else "does not exist"
        raise OstrakonError(f"settings file {name} {why}: give the path of a TOML file") from None
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise OstrakonError(f"settings file {name} cannot be read ({why}): give the path of a TOML file") from None
    try:
        return tomllib.loads(_decoded(content, name).replace("\r\n", "\n").replace("\r", "\n"))
    except (ValueError, RecursionError) as error:
        found = "more levels of brackets than can be read" if isinstance(error, RecursionError) else str(error)
        raise OstrakonError(f"settings file {name} is damaged: expected TOML, found {found}") from None


def _decoded(content: bytes, name: str) -> str:
    encoding = next((found for mark, found in _OTHER_MARKS.items() if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:4]:
        encoding = "UTF-16 or UTF-32"
    if encoding is None:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            encoding = f"Latin-1 or the like (byte {content[error.start]:#04x} in line {line})"
    raise OstrakonError(f"settings file {name} is written in {encoding}: expected UTF-8, save it in that encoding")
