"""What a process may be called: what its certificate, its files and a line of a log can all hold."""

import re

ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
EXPECTED = "up to 64 letters of A-Z and a-z, digits, dots, dashes or underscores, and a letter or digit first"


def check_id(value: str) -> str:
    """Refuse what is no id.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(ID, value):
        raise ValueError(f"{value!r} can stand in no certificate: expected {EXPECTED}")
    return value
