"""Members that are shut out: from the next round on, in the ledger, and with f below half of the seats."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostrakon.common.aggregation import rule
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.identity.revocation import revoked_text
from ostrakon.common.reasons import Missing, Reason
from ostrakon.server.core.revocation import Revocations, seated
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.audit import audit
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.driven_worker import refusal
from tests.harness.house import House, Member, submit_all, vector, vote_all
from tests.harness.scenario import cancel, play, reached, settle

FIVE = ("a", "b", "c", "d", "e")


def workers(*names: str) -> frozenset[Identity]:
    return frozenset(Identity("worker", name) for name in names)


class Listed:
    """A list that a test writes on."""

    def __init__(self, *names: str) -> None:
        self.revoked = workers(*names)

    def __call__(self) -> frozenset[Identity]:
        return self.revoked


async def next_round(members: list[Member], after: int) -> None:
    for member in members:
        await member.receive(after=after)
    await submit_all(members)
    await vote_all(members)


def test_a_revoked_member_ends_its_round_and_is_refused_from_the_next_one_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        listed = Listed()
        house = House(tmp_path, roster=FIVE, f=1, rounds=9, revoked=listed)
        house.start()
        members = await house.members()
        *others, gone = members
        await submit_all(members)
        listed.revoked = workers("e")
        answers = await vote_all(members)  # the round that is under way is its own still
        assert answers[-1].commit.head.round == 1
        for call in (gone.join("pull", 3), gone.receive(), gone.candidates(), gone.vote(), gone.submit(vector(1.0))):
            assert await refusal(call) == ("PERMISSION_DENIED", Reason.REVOKED)
        await next_round(others, after=1)
        first, second = house.entry(1), house.entry(2)
        assert (first.revoked, second.revoked) == ((), ("e",))
        assert (first.missing, first.refused) == ({}, {})
        assert second.missing == {}  # it has no seat that could be empty
        assert second.refused["e"] == {"revoked": 5}
        assert house.status().revoked == ["urn:ostrakon:worker:e"]
        await house.stop()

    play(scenario())
    audit(tmp_path)


def test_without_the_revoked_ones_seat_the_others_bear_as_many_silent_ones_as_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(
            tmp_path, roster=FIVE, f=1, grace_floor=0.01, absent_after=1, join_timeout=0.1, revoked=Listed("e")
        )
        house.start()
        members = [Member(house, name) for name in "abc"]  # d is silent, e revoked: two of five, with f = 1
        for member in members:
            await member.enter()
        await submit_all(members)
        await vote_all(members)
        assert house.entry().missing.keys() == {"d"}
        await house.stop()

    play(scenario())
    audit(tmp_path)


def test_where_f_would_not_be_a_minority_the_seat_stays_and_is_one_of_f_that_are_missing(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, revoked=Listed("c"))  # n = 3, f = 1
        house.start()
        members = [Member(house, name) for name in "ab"]
        for member in members:
            await member.enter()
        await submit_all(members)
        await reached(lambda: house.coordinator.head_round == 1)  # two rows against f = 0: one candidate, no vote
        entry = house.entry()
        assert (entry.revoked, entry.missing) == (("c",), {"c": Missing.REVOKED})
        assert entry.seats(("a", "b", "c")) == ("a", "b", "c")
        await house.stop()

    play(scenario())
    audit(tmp_path)


def test_who_was_revoked_stays_so_over_a_restart_without_the_list(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = House(tmp_path, roster=FIVE, f=1, revoked=Listed("e"))
        first.start()
        members = [Member(first, name) for name in "abcd"]
        for member in members:
            await member.enter()
        await submit_all(members)
        await vote_all(members)
        await first.stop()
        again = House(tmp_path, roster=FIVE, f=1)
        assert await refusal(Member(again, "e").join("pull", 3)) == ("PERMISSION_DENIED", Reason.REVOKED)
        await again.stop()

    play(scenario())


def test_a_revoked_member_that_waits_for_the_next_model_does_not_get_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        listed = Listed()
        house = House(tmp_path, roster=FIVE, f=1, rounds=9, revoked=listed)
        house.start()
        members = await house.members()
        observer = house.transport("watcher", "observer")
        request = pb.BroadcastRequest(stamp=members[0].stamp(), after=1)

        async def observe() -> list[pb.ModelPart]:
            return [part async for part in observer.broadcast(request)]

        waiting = [asyncio.create_task(refusal(call)) for call in (members[-1].receive(after=1), observe())]
        await submit_all(members)
        listed.revoked = workers("e") | {Identity("observer", "watcher")}
        await vote_all(members)
        assert await asyncio.gather(*waiting) == [("PERMISSION_DENIED", Reason.REVOKED)] * 2
        await house.stop()

    play(scenario())


def test_more_revoked_ones_than_f_hold_the_run_up_and_it_says_for_whom_it_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, grace_floor=0.01, join_timeout=0.01, revoked=Listed("b", "c"))
        running = house.start()
        await Member(house, "a").enter()
        await reached(lambda: house.coordinator.waiting())
        assert house.coordinator.waiting().endswith("of the 2 momentum vectors it needs; waiting for a")
        await settle()
        await cancel(running)
        await house.stop()

    play(scenario())


@given(st.integers(1, 9), st.data())
def test_f_is_below_half_of_the_seats_and_the_rule_can_be_used_whoever_is_revoked(n: int, data: st.DataObject) -> None:
    roster = tuple("abcdefghi"[:n])
    f = data.draw(st.integers(0, (n - 1) // 2))
    name = data.draw(st.sampled_from(["Mean2P", "Krum"])) if n >= 2 * f + 3 and n > f + 3 else "Mean2P"
    settings = ServerSettings(
        task="t", roster=roster, f=f, gamma=1, rule=name, rounds=1, directory=Path("d"), initial=Path("i")
    )
    revoked = data.draw(st.sets(st.sampled_from(roster)))
    seats = seated(settings, revoked)
    assert 2 * f < len(seats)
    rule(name).check_run(len(seats), f, asynchronous=False)
    assert set(roster) - revoked <= set(seats)
    assert list(seats) == [member for member in roster if member in seats]
    kept = revoked & set(seats)
    if kept and name == "Mean2P":
        assert 2 * f >= len(seats) - 1  # one seat fewer, and f were no minority


def test_a_list_is_read_anew_when_it_has_changed_and_forgets_nobody(tmp_path: Path) -> None:
    path = tmp_path / "revoked.txt"
    revocations = Revocations(path)
    assert revocations() == frozenset()
    path.write_text(revoked_text(workers("a")))
    assert revocations() == workers("a")
    path.write_text("urn:ostrakon:worker:b\nnobody\n")  # cannot be used: nothing changes
    assert revocations() == workers("a")
    path.write_text("\n# a note\n urn:ostrakon:worker:b \n")
    assert revocations() == workers("a", "b")
    path.unlink()
    assert revocations() == workers("a", "b")


def test_a_list_that_cannot_be_used_is_named_before_a_run_begins(tmp_path: Path) -> None:
    path = tmp_path / "revoked.txt"
    path.write_text("oslo\n")
    with pytest.raises(OstrakonError, match=r"list of the revoked .*revoked.txt: 'oslo' is no identity"):
        Revocations(path)
