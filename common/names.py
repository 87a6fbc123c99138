"""How users name a rule, an attack or a task: `Mean2P`, `SF(scale=10)`, `package.module:MyTask`."""

import ast
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from common.errors import OstrakonError

_NAME = re.compile(r"[A-Za-z_][\w.:]*", re.ASCII)


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Read a name with parameters.

    >>> parse_call("SF(scale=10)")
    ('SF', {'scale': 10})

    Args:
        text: a name alone, or a name and `parameter=value` pairs in parentheses; values are Python literals.

    Returns:
        The name and its parameters in the order written; whether they are known is for the caller to check.

    Raises:
        OstrakonError: the text has another form, names a parameter twice, or gives a value without its name.
    """
    head, parenthesis, rest = text.strip().partition("(")
    name = head.strip()
    if not _NAME.fullmatch(name) or (parenthesis and not rest.endswith(")")):
        raise _malformed(text)
    if not parenthesis:
        return name, {}
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _malformed(text) from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise _malformed(text)
    if call.args:
        raise OstrakonError(f"{text!r} gives a value without its name: write {name}(parameter=value)")
    parameters: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _malformed(text)
        if keyword.arg in parameters:
            raise OstrakonError(f"{text!r} gives {keyword.arg} twice: give it once")
        try:
            parameters[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise OstrakonError(
                f"{text!r} gives {keyword.arg} a value that is not a literal: "
                "use a number, a 'text', True, False or None"
            ) from None
    return name, parameters


def unknown(kind: str, name: str, known: Iterable[str]) -> OstrakonError:
    """The error for a name that nobody registered: lists the known ones and suggests the nearest, whatever its case.

    Args:
        kind: what was to be named, as the user calls it: rule, attack, task.
    """
    names = tuple(known)
    by_lower = {candidate.lower(): candidate for candidate in names}
    near = get_close_matches(name.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]}?" if near else ""
    return OstrakonError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


def _malformed(text: str) -> OstrakonError:
    return OstrakonError(f"{text!r} cannot be read: write a name, or a name with parameters as in SF(scale=10)")
