"""Pickles read as data: lists, dictionaries, texts, numbers and arrays of bytes, and nothing is ever called by name.

A pickle is a program. Of its instructions this reads those that Python 2 wrote for CIFAR-10's batches, one after the
other, and takes down what numpy's three names are applied to without importing them; any other name is refused.
"""

import math
import pickletools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostrakon.common.errors import OstrakonError

_NAMES = ("numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype")
_ARRAY, _KIND, _DTYPE = _NAMES


class _Name(NamedTuple):
    text: str


class _Applied(NamedTuple):
    """What a name was applied to."""

    name: _Name
    arguments: tuple[Any, ...]


class _Unread(Exception):
    """The pickle holds what is not read; the text says what."""


def read_pickled(content: bytes, where: str) -> Any:
    """The value in a pickle of protocol 2 or older, with its arrays of unsigned bytes as numpy's.

    Raises:
        OstrakonError: it is damaged, or holds anything else; `where` says where it came from.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python about escapes in texts
            return _Reader().read(content)
    except _Unread as refusal:
        raise OstrakonError(f"{where} holds {refusal}: expected a batch of CIFAR-10 as it is published") from None
    except MemoryError:
        raise OstrakonError(f"{where} does not fit into memory, or is damaged") from None
    except Exception as error:  # pickletools raises what it happens to meet
        why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise OstrakonError(f"{where} is damaged or no pickle ({why}): expected a batch of CIFAR-10") from None


class _Reader:
    """A pickle machine's stack and memory, and what each instruction does to them."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}

    def read(self, content: bytes) -> Any:
        for instruction, argument, _ in pickletools.genops(content):
            name = instruction.name
            if name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _LITERALS:
                self._stack.append(argument)
            elif name in _WORK:
                _WORK[name](self, argument)
            elif name not in ("PROTO", "STOP"):
                raise _Unread(f"the instruction {name}")
        (value,) = self._stack
        return value

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _last(self, count: int) -> list[Any]:
        if count > len(self._stack) - (self._marks[-1] if self._marks else 0):
            raise _Unread("an instruction without its values")
        found = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return found

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _remember(self, place: Any) -> None:
        self._memory[int(place)] = self._stack[-1]

    def _recall(self, place: Any) -> None:
        self._stack.append(self._memory[int(place)])

    def _name(self, text: str) -> None:
        if text not in _NAMES:
            raise _Unread(f"the name {text.replace(' ', '.')[:100]}")
        self._stack.append(_Name(text))

    def _append(self, values: list[Any]) -> None:
        top = self._stack[-1]
        if type(top) is not list:
            raise _Unread("elements of something that is no list")
        top.extend(values)

    def _set(self, values: list[Any]) -> None:
        top, keys = self._stack[-1], values[::2]
        if type(top) is not dict or len(values) % 2 or not all(isinstance(key, str | int) for key in keys):
            raise _Unread("a dictionary that is none of texts")
        top.update(zip(keys, values[1::2], strict=True))

    def _apply(self, _: Any) -> None:
        name, arguments = self._last(2)
        if not isinstance(name, _Name) or type(arguments) is not tuple:
            raise _Unread("a call of something that has no name")
        self._stack.append(_Applied(name, arguments))

    def _build(self, _: Any) -> None:
        applied, state = self._last(2)
        self._stack.append(_built(applied, state))


def _built(applied: Any, state: Any) -> Any:
    """An object that has got its state: the kind of an array's elements, or an array."""
    if not isinstance(applied, _Applied) or type(state) is not tuple:
        raise _Unread("the state of something that has none")
    if applied.name.text == _DTYPE:
        return applied
    if applied.name.text != _ARRAY or applied.arguments[:1] != (_Name(_KIND),):
        raise _Unread("an object that is no array")
    return _array(state)


def _array(state: tuple[Any, ...]) -> NDArray[np.uint8]:
    _, shape, kind, by_columns, content = state
    sizes = type(shape) is tuple and all(type(size) is int and size >= 0 for size in shape)
    of_bytes = isinstance(kind, _Applied) and kind.name.text == _DTYPE and kind.arguments[:1] == ("u1",)
    if not sizes or not of_bytes or by_columns or not isinstance(content, str) or math.prod(shape) != len(content):
        raise _Unread("an array that is none of unsigned bytes, row by row")
    return np.frombuffer(content.encode("latin-1"), np.uint8).reshape(shape)


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE")
_WORK: dict[str, Callable[[_Reader, Any], None]] = {
    "MARK": _Reader._mark,
    "BINPUT": _Reader._remember,
    "LONG_BINPUT": _Reader._remember,
    "BINGET": _Reader._recall,
    "LONG_BINGET": _Reader._recall,
    "EMPTY_LIST": lambda reader, _: reader._stack.append([]),
    "EMPTY_DICT": lambda reader, _: reader._stack.append({}),
    "APPEND": lambda reader, _: reader._append(reader._last(1)),
    "APPENDS": lambda reader, _: reader._append(reader._since_mark()),
    "SETITEM": lambda reader, _: reader._set(reader._last(2)),
    "SETITEMS": lambda reader, _: reader._set(reader._since_mark()),
    "TUPLE": lambda reader, _: reader._stack.append(tuple(reader._since_mark())),
    "TUPLE1": lambda reader, _: reader._stack.append(tuple(reader._last(1))),
    "TUPLE2": lambda reader, _: reader._stack.append(tuple(reader._last(2))),
    "TUPLE3": lambda reader, _: reader._stack.append(tuple(reader._last(3))),
    "GLOBAL": _Reader._name,
    "REDUCE": _Reader._apply,
    "BUILD": _Reader._build,
}
