"""How users name a rule, an attack or a task: `Mean2P`, `SF(scale=10)`, `package.module:MyTask`."""

import ast
import re
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, NamedTuple

from ostrakon.common.errors import OstrakonError

_NAME = re.compile(r"[A-Za-z_][\w.:-]*", re.ASCII)


_LONGEST = 200  # characters of what `written` writes: names in a message have as many


class Expression(str):
    """A parameter's value that is no literal, as the user wrote it."""


class Call(NamedTuple):
    """A name and its parameters, in the order written; whether they are known is for the caller to check."""

    name: str
    positional: list[Any]
    named: dict[str, Any]


def read_call(text: str, example: str = "SF(scale=10)") -> Call:
    """Read a name with parameters, whose values are Python literals or else `Expression`s.

    >>> read_call("TwoPhase(Mean1P, Bucketing(2)+Avg)")
    Call(name='TwoPhase', positional=['Mean1P', 'Bucketing(2)+Avg'], named={})

    Args:
        text: a name alone, or a name and values or `parameter=value` pairs in parentheses.
        example: what to show to whom wrote something else.

    Raises:
        OstrakonError: the text has another form, or names a parameter twice.
    """
    head, parenthesis, rest = text.strip().partition("(")
    name = head.strip()
    if not _NAME.fullmatch(name) or (parenthesis and not rest.endswith(")")):
        raise _malformed(text, example)
    if not parenthesis:
        return Call(name, [], {})
    source = f"_({rest}"
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python about its literals
            call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _malformed(text, example) from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise _malformed(text, example)
    named: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _malformed(text, example)
        if keyword.arg in named:
            raise OstrakonError(f"{text!r} gives {keyword.arg} twice: give it once")
        named[keyword.arg] = _value(keyword.value, source)
    return Call(name, [_value(argument, source) for argument in call.args], named)


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Read a name with named parameters, whose values are Python literals.

    >>> parse_call("SF(scale=10)")
    ('SF', {'scale': 10})

    Raises:
        OstrakonError: the text has another form, names a parameter twice, or gives a value without its name or one that
            is not a literal.
    """
    name, positional, named = read_call(text)
    if positional:
        raise OstrakonError(f"{text!r} gives a value without its name: write {name}(parameter=value)")
    for parameter, value in named.items():
        if isinstance(value, Expression):
            raise OstrakonError(
                f"{text!r} gives {parameter} a value that is not a literal: use a number, a 'text', True, False or None"
            )
    return name, named


def written(name: str, parameters: Mapping[str, Any]) -> str:
    """A name with its parameters as a user would write it; equal ones give equal texts.

    What would be longer than a message may carry is cut, and ends with a digest of the whole.

    >>> written("dirichlet", {"total": 62.0, "alpha": 0.1})
    'dirichlet(alpha=0.1, total=62)'
    """
    if not parameters:
        return name
    text = f"{name}({', '.join(f'{parameter}={_plain(parameters[parameter])}' for parameter in sorted(parameters))})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}...{sha256(text.encode()).hexdigest()[:12]}"


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


def _plain(value: Any) -> str:
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)


def _value(node: ast.expr, source: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Expression(ast.get_source_segment(source, node) or "")


def _malformed(text: str, example: str) -> OstrakonError:
    return OstrakonError(f"{text!r} cannot be read: write a name, or a name with parameters as in {example}")
