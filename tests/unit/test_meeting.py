"""Where colluders meet: they wait for everybody, but not beyond the tap deadline, and not for the dead."""

import asyncio
from typing import Any

import numpy as np
import pytest

from ostrakon.common.aggregation import rule
from ostrakon.common.choice import Choice
from ostrakon.common.clock import ManualClock
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import Vector
from ostrakon.worker.attacks import Defence, attack
from ostrakon.worker.testbed.meeting import Key, Meetings
from tests.harness.scenario import cancel, inline, play, settle

HONEST = ("c", "d", "e")
CORRUPTED = ("a", "b")
TRUE = {name: np.full(4, value, np.float32) for name, value in zip("abcde", (1, 2, 3, 5, 10), strict=True)}
DEFENCE = Defence(rule("Mean2P"), 5, 2)


class Bed:
    """A meeting place with a clock that stands still."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        values = {"tap_deadline": 2.0, "absent_after": 3, "seed": 1}
        self.meetings = Meetings(HONEST, CORRUPTED, CORRUPTED, clock=self.clock, offload=inline, **(values | settings))

    def ask(self, member: str, round: int = 1, text: str = "Mimic(target=99)") -> asyncio.Task[Vector]:
        asked = self.meetings.ask(member, Key("run", round), TRUE[member], attack(text), DEFENCE)
        return asyncio.create_task(asked)

    def copy(self, *members: str, round: int = 1) -> None:
        for member in members:
            self.meetings.copy(member, Key("run", round), TRUE[member])

    async def round_without(self, *missing: str, round: int) -> bool:
        """Play one round; returns whether the colluders had their answers before the deadline."""
        asked = [self.ask(member, round) for member in CORRUPTED if member not in missing]
        self.copy(*(member for member in HONEST if member not in missing), round=round)
        await settle()
        early = all(task.done() for task in asked)
        self.clock.advance(2.0)
        await asyncio.gather(*asked)
        return early


def test_colluders_wait_for_every_copy_and_every_colluder() -> None:
    async def scenario() -> None:
        bed = Bed()
        bed.copy("c", "d")
        first = bed.ask("a")
        await settle()
        bed.copy("e")
        await settle()
        assert not first.done()
        second = bed.ask("b")
        np.testing.assert_array_equal(await first, TRUE["e"])  # the last honest one in roster order
        np.testing.assert_array_equal(await second, TRUE["e"])

    play(scenario())


def test_what_is_sent_does_not_depend_on_who_came_first() -> None:
    async def sent(order: str) -> dict[str, Vector]:
        bed = Bed()
        asked = {}
        for member in order:
            if member in CORRUPTED:
                asked[member] = bed.ask(member, text="siege")
                await settle()
            else:
                bed.copy(member)
        return {member: await task for member, task in asked.items()}

    one, other = play(sent("abcde")), play(sent("edbca"))
    for member in CORRUPTED:
        np.testing.assert_array_equal(one[member], other[member])
    assert not np.array_equal(one["a"], one["b"])


def test_at_the_tap_deadline_they_work_with_what_came() -> None:
    async def scenario() -> None:
        bed = Bed()
        asked = [bed.ask("a"), bed.ask("b")]
        bed.copy("c", "d")
        await settle()
        bed.clock.advance(1.9)
        await settle()
        assert not any(task.done() for task in asked)
        bed.clock.advance(0.1)
        for task in asked:
            np.testing.assert_array_equal(await task, TRUE["d"])

    play(scenario())


def test_who_asks_after_the_deadline_is_answered_at_once() -> None:
    async def scenario() -> None:
        bed = Bed()
        first = bed.ask("a")
        bed.copy(*HONEST)
        await settle()
        bed.clock.advance(2.0)
        await first
        late = bed.ask("b")
        await settle()
        np.testing.assert_array_equal(late.result(), TRUE["e"])

    play(scenario())


@pytest.mark.parametrize("dead", ["d", "b"])
def test_who_is_dead_is_waited_for_a_few_rounds_and_welcome_when_it_comes_back(dead: str) -> None:
    async def scenario() -> None:
        bed = Bed(absent_after=3)
        assert await bed.round_without(round=1)
        assert [await bed.round_without(dead, round=round) for round in (2, 3, 4, 5, 6)] == [False] * 3 + [True] * 2
        assert await bed.round_without(round=7)
        assert not await bed.round_without(dead, round=8)

    play(scenario())


def test_who_is_always_late_is_not_waited_for_either() -> None:
    async def scenario() -> None:
        bed = Bed(absent_after=3)
        early = []
        for round in range(1, 8):
            early.append(await bed.round_without("d", round=round))
            bed.copy("d", round=round)
        assert early == [False] * 3 + [True] * 4

    play(scenario())


def test_copies_of_older_rounds_do_not_disturb_the_present_one() -> None:
    async def scenario() -> None:
        bed = Bed()
        assert await bed.round_without(round=4)
        first = bed.ask("a", round=5)
        await settle()
        bed.copy("c", round=3)
        bed.copy("d", round=2)
        bed.copy(*HONEST, round=5)
        second = bed.ask("b", round=5)
        for task in (first, second):
            np.testing.assert_array_equal(await task, TRUE["e"])

    play(scenario())


def test_another_run_begins_anew() -> None:
    async def scenario() -> None:
        bed = Bed()
        for round in (8, 9):
            assert await bed.round_without(round=round)
        asked = [
            asyncio.create_task(bed.meetings.ask(m, Key("another", 1), TRUE[m], attack("Mimic"), DEFENCE)) for m in "ab"
        ]
        for member in HONEST:
            bed.meetings.copy(member, Key("another", 1), TRUE[member])
        await asyncio.gather(*asked)

    play(scenario())


def test_without_any_copy_the_attack_says_what_it_lacks() -> None:
    async def scenario() -> None:
        bed = Bed()
        asked = [bed.ask("a"), bed.ask("b")]
        await settle()
        bed.clock.advance(2.0)
        for task in asked:
            with pytest.raises(OstrakonError, match="needs the vectors of honest workers"):
                await task

    play(scenario())


def test_colluders_with_different_attacks_know_the_same_vectors() -> None:
    async def scenario() -> None:
        bed = Bed()
        asked = [bed.ask("a", text="Omn"), bed.ask("b", text="Empire")]
        bed.copy(*HONEST)
        omn, empire = [await task for task in asked]
        true = np.array(list(TRUE.values()))
        np.testing.assert_allclose(omn, true[:2].mean(axis=0) - 2 * 5 / 2 * true.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(empire, -0.1 * true[2:].mean(axis=0), rtol=1e-6)

    play(scenario())


def test_who_acts_alone_in_a_round_shares_its_vector_and_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        bed = Bed()
        first = bed.ask("a", text="Omn")
        bed.copy(*HONEST)
        await settle()
        assert not first.done()
        bed.meetings.share("b", Key("run", 1), TRUE["b"])
        true = np.array(list(TRUE.values()))
        np.testing.assert_allclose(await first, true[:2].mean(axis=0) - 2 * 5 / 2 * true.mean(axis=0), rtol=1e-6)

    play(scenario())


def test_one_colluder_that_gives_up_takes_nobody_along() -> None:
    async def scenario() -> None:
        bed = Bed()
        first, second = bed.ask("a"), bed.ask("b")
        await settle()
        await cancel(first)
        bed.copy(*HONEST)
        np.testing.assert_array_equal(await second, TRUE["e"])

    play(scenario())


def test_rounds_are_kept_apart_and_old_ones_forgotten() -> None:
    async def scenario() -> None:
        bed = Bed()
        for round in range(1, 6):
            assert await bed.round_without(round=round)
        bed.copy(*HONEST, round=6)
        asked = bed.ask("a", round=7)
        await settle()
        assert not asked.done()
        await cancel(asked)

    play(scenario())


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        (("inner", "inner", "inner"), None),  # two colluders do not outvote three
        (("inner", "inner", "outer"), "outer"),
        (("outer", "outer", "outer"), None),
        (("outer", "outer", "inner"), "inner"),
    ],
)
def test_colluders_vote_only_when_that_changes_the_outcome(votes: tuple[Choice, ...], expected: Choice | None) -> None:
    async def scenario() -> None:
        bed = Bed()
        asked = [asyncio.create_task(bed.meetings.ask_vote(member, Key("run", 1))) for member in CORRUPTED]
        await settle()
        for member, choice in zip(HONEST, votes, strict=True):
            assert not any(task.done() for task in asked)
            bed.meetings.copy_vote(member, Key("run", 1), choice)
        assert await asyncio.gather(*asked) == [expected, expected]

    play(scenario())
