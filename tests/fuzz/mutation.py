"""Messages that nobody should send: valid ones with fields set to extremes, bytes flipped, parts in the wrong order."""

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

_STRINGS = ("", "x", "\0", "\n", "😀" * 50, "x" * 200, "x" * 201, "x" * 9000, "0" * 64, "../../etc", "%s%n", "\ud7ff")
_DOUBLES = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1.8e308, 5e-324, 1e-300)
_BYTES = (b"", b"\0", b"\xff" * 4, b"\x00\x00\xc0\x7f" * 170, b"\0" * 680, b"\0" * 681, b"\1" * 70_000)
_NOT_UTF_8 = (b"\x12\x01\xff", b"\x12\x03\xed\xa0\x80", b"\x0a\x04\x12\x02\xc3\x28")  # the second: a lone surrogate


def extreme(message: Message, rng: random.Random) -> None:
    """Set one field, at some depth, to something at the end of what its type can say."""
    field = rng.choice(message.DESCRIPTOR.fields)
    if field.is_repeated:
        del getattr(message, field.name)[:]
        if field.message_type is None:
            getattr(message, field.name).extend([_value(field, rng) for _ in range(rng.choice((0, 1, 2, 300)))])
    elif field.message_type is None:
        setattr(message, field.name, _value(field, rng))
    elif rng.random() < 0.15:
        message.ClearField(field.name)
    else:
        getattr(message, field.name).SetInParent()
        extreme(getattr(message, field.name), rng)


def bend(raw: bytes, rng: random.Random, others: Iterable[bytes] = ()) -> bytes:
    """Change the bytes of one message; `others` are messages to splice it with."""
    return rng.choice(_BENDS)(raw, rng, list(others) or [raw])


def shuffle(parts: list[bytes], rng: random.Random) -> list[bytes]:
    """Leave out, double or move parts of a stream, or let it go on and on."""
    parts = list(parts)
    match rng.randrange(6):
        case 0:
            del parts[rng.randrange(len(parts))]
        case 1:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        case 2:
            rng.shuffle(parts)
        case 3:
            parts = parts[:1] * rng.choice((2, 30))
        case 4:
            parts += parts[-1:] * rng.choice((1, 100))
        case _:
            at = rng.randrange(len(parts))
            parts[at] = bend(parts[at], rng, parts)
    return parts


def _value(field: Field, rng: random.Random) -> Any:
    match field.cpp_type:
        case Field.CPPTYPE_STRING if field.type == Field.TYPE_BYTES:
            return rng.choice(_BYTES)
        case Field.CPPTYPE_STRING:
            return rng.choice(_STRINGS)
        case Field.CPPTYPE_DOUBLE:
            return rng.choice(_DOUBLES)
        case Field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case Field.CPPTYPE_ENUM:
            return rng.choice((-(2**31), -1, 0, 1, 2, 3, 99, 2**31 - 1))
        case Field.CPPTYPE_UINT32:
            return rng.choice((0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1))
    return rng.choice((0, 1, 2, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1))


def _flip(raw: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    changed = bytearray(raw or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _splice(raw: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return raw[: rng.randrange(len(raw) + 1)] + other[rng.randrange(len(other) + 1) :]


_BENDS: tuple[Callable[[bytes, random.Random, list[bytes]], bytes], ...] = (
    _flip,
    _flip,
    _splice,
    lambda raw, rng, others: raw[: rng.randrange(len(raw) + 1)],
    lambda raw, rng, others: rng.randbytes(rng.choice((0, 1, 5, 100, 5000))),
    lambda raw, rng, others: raw + raw,  # every field twice
    lambda raw, rng, others: raw + rng.choice(_NOT_UTF_8),
    lambda raw, rng, others: raw + b"\xf8\x07" + b"\xff" * 9 + b"\x01",  # a field that nobody knows
    lambda raw, rng, others: raw + b"\xfb\x07" * rng.choice((1, 50, 4000)),  # groups in groups, which never end
    lambda raw, rng, others: raw + b"\xfb\x07" * 90 + b"\xfc\x07" * 90,
    lambda raw, rng, others: raw + b"\x0a" + b"\xff" * 4 + b"\x0f",  # 4 GiB are announced
    lambda raw, rng, others: b"\x0a\x02\x08\x01" * rng.choice((1, 2000)) + raw,
)
