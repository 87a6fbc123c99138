"""How users name a rule, an attack or a task: `Mean2P`, `SF(scale=10)`, `package.module:MyTask`."""

import ast
import re
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from ostrakon.common.errors import OstrakonError

_NAME = re.compile(r"[A-Za-z_][\w.:-]*", re.ASCII)


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


def _value(node: ast.expr, source: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Expression(ast.get_source_segment(source, node) or "")


def _malformed(text: str, example: str) -> OstrakonError:
    return OstrakonError(f"{text!r} cannot be read: write a name, or a name with parameters as in {example}")
