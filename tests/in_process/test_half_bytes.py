"""Runs whose momenta and aggregates travel as bfloat16: what workers form is what the server commits."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ostrakon.common.bf16 import candidate, rounded, widened
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.reasons import Reason
from ostrakon.server.storage.audit import audit
from ostrakon.server.storage.initial import Initial, check_same_run
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.transport import CallFailed
from tests.harness.house import D, House, Member, Pull, pulls
from tests.harness.scenario import play


def models_of(directory: Path, **settings: object) -> list[str]:
    async def scenario() -> list[str]:
        house = House(directory, **settings)
        sessions = pulls(house)
        assert await house.run(*sessions) == ["completed"] * 4
        assert [list(session.rounds.exchange.held) for session in sessions] == [[house.digest]] * 3
        winners = [entry.winner for entry in house.ledger.entries()]
        await house.stop()
        return winners

    winners = play(scenario())
    audit(directory)
    return winners


@pytest.mark.parametrize("settings", [{}, {"gamma": "0.5,0.3*cosine(3)@2", "weight_decay": 0.1}])
def test_workers_hold_the_model_that_the_server_commits(tmp_path: Path, settings: dict[str, object]) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "again").mkdir()
    half = models_of(tmp_path / "half", wire="bf16", **settings)
    assert half == models_of(tmp_path / "again", wire="bf16", **settings)
    assert half != models_of(tmp_path, **settings)


def test_a_candidate_is_what_comes_of_the_aggregate_that_was_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, wire="bf16")
        house.start()
        members = await house.members()
        for member, value in zip(members, (1.001, 2.002, 3.003), strict=True):
            await member.submit(rounded(np.full(D, value, dtype=np.float32)))
        request = pb.ProposeRequest(stamp=members[0].stamp(), session=members[0].session)
        first, *others = [part async for part in members[0].connection.propose(request)]
        sent = [np.frombuffer(part.chunk.data, np.uint16) for part in (first, *others)]
        assert [one.size for one in sent] == [D, D]
        theta = members[0].held[members[0].base]
        formed = [digest(candidate(theta, one, house.settings.step(1))) for one in sent]
        assert formed == list(first.header.digests)
        aggregates = [widened(one)[0] for one in sent]
        assert aggregates == [widened(rounded(np.full(1, mean, dtype=np.float32)))[0] for mean in means(house)]
        await house.stop()

    play(scenario())


def means(house: House) -> list[float]:
    """Of the momenta that Inner and Outer were formed from, as they came."""
    came = [float(house.coordinator.aggregator.row(position)[0]) for position in range(3)]
    assert came == [1.0, 2.0, 3.0]  # the nearest values of bfloat16
    candidates = house.coordinator.proposal.candidates
    inner, excluded = candidates["inner"].cluster, candidates["outer"].cluster
    return [np.mean([came[i] for i in inner]), np.mean([came[i] for i in range(3) if i not in excluded])]


async def refusal(call: Awaitable[object]) -> Reason | None:
    with pytest.raises(CallFailed) as refused:
        await call
    return refused.value.reason


@pytest.mark.parametrize("value", [3.4e38, np.nan])  # the first is finite, and rounded to infinity
def test_a_momentum_that_is_not_finite_once_it_is_rounded_is_refused(tmp_path: Path, value: float) -> None:
    vector = np.full(D, value, dtype=np.float32)

    async def scenario() -> None:
        house = House(tmp_path, wire="bf16")
        house.start()
        member = await Member(house, "a").enter()
        assert await refusal(member.submit(rounded(vector))) is Reason.NOT_FINITE
        assert await refusal(member.submit(np.ones(D, dtype=np.float32))) is Reason.TOO_MUCH_DATA
        await house.stop()

    play(scenario())


def test_liars_in_half_the_bytes_do_not_move_the_model_away(tmp_path: Path) -> None:
    async def scenario() -> float:
        house = House(tmp_path, rounds=10, wire="bf16")
        liar = Pull(1.0, lie=lambda vector: -100 * vector)
        await house.run(house.session("a", liar), house.session("b", Pull(1.0)), house.session("c", Pull(1.01)))
        return float(house.coordinator.chain.theta[0])

    assert 0.9 < asyncio.run(scenario()) < 1.1


def test_a_run_goes_on_with_the_wire_that_it_began_with(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        genesis = house.coordinator.chain.genesis
        await house.stop()
        with pytest.raises(OstrakonError, match="was started with wire = 'float32', the settings now say 'bf16'"):
            House(tmp_path, wire="bf16")
        before = {name: value for name, value in genesis.settings.items() if name not in ("wire", "weight_decay")}
        older = replace(genesis, settings=before)  # made before there were these settings
        initial = Initial(house.settings.initial)
        check_same_run(house.settings, initial, older)
        with pytest.raises(OstrakonError, match="wire"):
            check_same_run(house.settings.model_copy(update={"wire": "bf16"}), initial, older)
        with pytest.raises(OstrakonError, match=r"weight_decay = 0\.0, the settings now say 0.1"):
            check_same_run(house.settings.model_copy(update={"weight_decay": 0.1}), initial, older)

    play(scenario())
