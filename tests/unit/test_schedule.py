"""What changes with the rounds, as users write it."""

import doctest

import pytest

from ostrakon.common import schedule
from ostrakon.common.errors import OstrakonError
from ostrakon.common.schedule import Schedule, read_schedule


def test_a_stage_lasts_until_the_next_one_begins() -> None:
    found = read_schedule("a@3,b@5", str)
    assert [found.at(round) for round in range(1, 8)] == [None, None, "a", "a", "b", "b", "b"]
    assert found.all() == ["a", "b"]


def test_one_name_alone_holds_from_the_start() -> None:
    assert read_schedule(" a ", str).at(1) == "a"
    assert read_schedule("none", str) == Schedule(((0, None),))


def test_commas_and_signs_inside_parentheses_are_the_names_own() -> None:
    assert read_schedule("a(x=1, y='@2')@0 , b@7", str).stages == ((0, "a(x=1, y='@2')"), (7, "b"))


@pytest.mark.parametrize(
    "text", ["a@", "@5", "a@-1", "a@1.5", "a@x", "a,,b@2", "", "a@0,b", "a@5,b@5", "a@5,b@4", "a@²"]
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(OstrakonError):
        read_schedule(text, str)


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(schedule).failed == 0
