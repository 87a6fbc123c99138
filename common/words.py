"""KEY=VALUE words of a command line, as `make` passes them on."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from ostrakon.common.errors import OstrakonError, readable


def read_words(words: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """The values in KEY=VALUE words, by the names of their settings; keys may be in any letter case.

    >>> read_words(["ROUNDS=100", "task=linear"], ("task", "rounds"))
    {'rounds': '100', 'task': 'linear'}

    Args:
        names: of the settings that there are, in lower case.

    Raises:
        OstrakonError: a word has another form, or its key is unknown, given twice or without a value.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        name = key.lower()
        if not equals:
            raise OstrakonError(f"{word!r} is no setting: write KEY=VALUE, as in ROUNDS=100")
        if name not in names:
            known = [name.upper() for name in names]
            near = get_close_matches(key.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise OstrakonError(f"unknown setting {key!r}{hint} (known: {', '.join(known)})")
        if name in given:
            raise OstrakonError(f"setting {name.upper()} is given twice: give it once")
        if not value:
            raise OstrakonError(f"setting {name.upper()} has no value: write {name.upper()}=VALUE or leave it out")
        given[name] = value
    return given


def whole_path(path: str, folder: Path | None = None) -> Path:
    """A path as it was given, `~` in it expanded; with a folder that it begins in, the absolute one.

    Raises:
        OstrakonError: it leads nowhere.
    """
    try:
        found = Path(path).expanduser()
        return found if folder is None else (folder / found).resolve()
    except (OSError, RuntimeError) as error:  # nobody's home, a link to itself, no current folder
        raise OstrakonError(f"{readable(path)} leads nowhere ({str(error).rstrip('.')}): correct the path") from None
