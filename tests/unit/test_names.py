"""What users may write where a rule, an attack or a task is named."""

from typing import Any

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import parse_call, unknown, written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SF", ("SF", {})),
        (" SF ", ("SF", {})),
        ("SF()", ("SF", {})),
        ("SF(scale=10)", ("SF", {"scale": 10})),
        ("SF( scale = -1e3 )", ("SF", {"scale": -1000.0})),
        (
            "PGA(target='Mean2P', honest=True, grid=(1, 2))",
            ("PGA", {"target": "Mean2P", "honest": True, "grid": (1, 2)}),
        ),
        ("X(text='a)(b')", ("X", {"text": "a)(b"})),
        ("package.module:MyTask(width=8)", ("package.module:MyTask", {"width": 8})),
    ],
)
def test_a_name_is_read_with_its_parameters(text: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert parse_call(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "()", "10", "SF(", "SF)", "SF(scale=)", "SF(scale=1", "SF(scale=1) + 1", "SF(a=1)(b=2)", "SF(**{'a': 1})",
     "S F", "SF(a=1)#", "SF(a=1 #)", "SF(a=1\0)", "SF(a=" + "(" * 10_000 + ")", "SF(" + "-" * 100_000 + "1)"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(OstrakonError, match=r"cannot be read: write a name, or .* as in SF\(scale=10\)"):
        parse_call(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SF(10)", "'SF(10)' gives a value without its name: write SF(parameter=value)"),
        ("SF(*[10])", "'SF(*[10])' gives a value without its name: write SF(parameter=value)"),
        ("SF(scale=1, scale=2)", "'SF(scale=1, scale=2)' gives scale twice: give it once"),
        (
            "SF(scale=open('x'))",
            "\"SF(scale=open('x'))\" gives scale a value that is not a literal: "
            "use a number, a 'text', True, False or None",
        ),
        (
            "SF(scale={[]: 1})",
            "'SF(scale={[]: 1})' gives scale a value that is not a literal: "
            "use a number, a 'text', True, False or None",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named(text: str, sentence: str) -> None:
    with pytest.raises(OstrakonError) as refusal:
        parse_call(text)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gauss", "unknown attack 'gauss'; did you mean Gauss? (known: SF, Gauss, LF)"),
        ("Guass", "unknown attack 'Guass'; did you mean Gauss? (known: SF, Gauss, LF)"),
        ("sf", "unknown attack 'sf'; did you mean SF? (known: SF, Gauss, LF)"),
        ("Trimmed", "unknown attack 'Trimmed' (known: SF, Gauss, LF)"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(name: str, sentence: str) -> None:
    assert str(unknown("attack", name, ["SF", "Gauss", "LF"])) == sentence


def test_equal_parameters_are_written_alike_and_no_text_is_longer_than_a_message_carries() -> None:
    assert written("t", {}) == "t"
    assert written("t", {"b": 1.0, "a": "x"}) == written("t", {"a": "x", "b": 1}) == "t(a='x', b=1)"
    assert written("t", {"a": True}) != written("t", {"a": 1})
    long = [written("t", {"a": "x" * 500 + end}) for end in "yz"]
    assert long[0] != long[1]
    assert max(map(len, long)) <= 200
