"""A worker's rounds as whoever computes sees them: `Rounds`, and the embedded worker's round on top of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ostrakon.common.clock import ManualClock
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.embedded.model import ModuleModel
from ostrakon.worker.embedded.round import AsyncRound
from ostrakon.worker.introduction import introduction
from ostrakon.worker.rounds import Rounds
from ostrakon.worker.transport import CallFailed, receive_models
from tests.harness.house import D, House, Member, vector
from tests.harness.scenario import Impatient, inline, play, settle


def rounds_of(house: House, name: str) -> Rounds:
    async def take_place(position: int, workers: int) -> None:
        return None

    return Rounds(
        introduction("pull", D),
        house.transport(name),
        Impatient(),
        take_place=take_place,
        server_timeout=1e9,
        diagnose=lambda: None,
        offload=inline,
    )


def test_who_hears_what_was_decided_without_its_model_still_has_the_one_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        house = House(tmp_path, rounds=2, clock=clock)
        house.start()
        rounds = rounds_of(house, "a")
        await rounds.join()
        with pytest.raises(OstrakonError, match="no model has come yet"):
            _ = rounds.theta
        others = [await Member(house, name).enter() for name in ("b", "c")]
        begun = await rounds.next()
        assert begun is not None
        for number, member in enumerate(others):
            await member.submit(vector(1.0 + number, 0.0, 0.0))
        await settle()
        clock.advance(100.0)
        await settle()
        for member in others:
            await member.candidates()
        await asyncio.gather(*(member.vote() for member in others))
        assert await rounds.candidates() is None
        assert rounds.exchange.head.round == 1  # it knows that the round is committed, and has not received its model
        assert rounds.theta is begun.theta
        await house.stop()

    play(scenario())


def test_a_round_that_begins_again_is_answered_with_the_same_momentum(tmp_path: Path) -> None:
    """Where the loop has left the round before its server died: a run without votes, or a loop that does not vote."""

    async def scenario() -> None:
        house = House(tmp_path, rule="Mean1P")
        house.start()
        model = nn.Linear(D, 1, bias=False)
        held, rounds = ModuleModel(model, beta=0.9), rounds_of(house, "a")

        async def submitted(x: torch.Tensor) -> tuple[int, str]:
            begun = await rounds.next()
            assert begun is not None
            held.begin(begun.theta)
            model(x).sum().backward()
            assert await AsyncRound(begun, rounds, held).submit()
            [found] = house.coordinator.round.submissions.values()
            return begun.number, found.digest

        first = await submitted(torch.ones(D))
        leaving = asyncio.create_task(rounds.next())
        await settle()
        await house.stop()
        leaving.cancel()
        await asyncio.wait({leaving})
        house = House(tmp_path, rule="Mean1P", port=house.port)
        house.start()
        assert await submitted(torch.arange(float(D))) == first
        assert first == (1, digest(np.full(D, 0.1, dtype=np.float32)))
        await house.stop()

    play(scenario())


def test_a_round_that_is_left_folds_no_gradient_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, rule="Mean1P")
        house.start()
        model = nn.Linear(D, 1, bias=False)
        held, rounds = ModuleModel(model, beta=0.9), rounds_of(house, "a")
        begun = await rounds.next()
        assert begun is not None
        old = AsyncRound(begun, rounds, held)
        rounds.begun = None
        model(torch.ones(D)).sum().backward()
        assert await old.submit() is False
        assert held.momentum(0.0).vector == pytest.approx(0.1)  # of one gradient, not of two
        await house.stop()

    play(scenario())


TWO = ["0" * 64, "1" * 64]


@pytest.mark.parametrize(
    ("header", "count", "sentence"),
    [
        ({"digests": [], "parameters": D}, 1, "0 models are named, expected 1"),
        ({"digests": TWO, "follow": TWO, "parameters": D}, 1, "2 models are named, expected 1"),
        ({"digests": TWO[:1], "parameters": D}, 2, "1 models are named, expected 2"),
        ({"digests": TWO[:1], "decided": pb.Commit(), "parameters": D}, 1, "1 models are named, expected 0"),
        ({"digests": TWO, "follow": TWO[:1] * 2, "parameters": D}, 2, "one of them twice"),
        ({"digests": TWO[:1], "follow": TWO[1:], "parameters": D}, 1, "not named"),
        ({"digests": TWO[:1], "follow": TWO[:1], "parameters": 1 << 60}, 1, f"{1 << 60} values are announced"),
    ],
)
def test_no_memory_is_taken_for_models_that_nobody_asked_for(header: Any, count: int, sentence: str) -> None:
    async def parts() -> AsyncIterator[pb.ModelPart]:
        yield pb.ModelPart(header=pb.ModelHeader(**header))

    with pytest.raises(CallFailed, match=sentence) as failed:
        asyncio.run(receive_models(parts(), D, count=count))
    assert failed.value.status == "INTERNAL"


def test_a_model_that_is_named_and_neither_sent_nor_held_is_asked_for_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path)
        house.start()
        rounds = rounds_of(house, "a")
        transport, left = rounds.exchange._transport, 1

        class Forgetful:
            def __getattr__(self, call: str) -> Any:
                return getattr(transport, call)

            async def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
                nonlocal left
                async for part in transport.broadcast(request):
                    if left:
                        del part.header.follow[:]
                        part.ClearField("chunk")
                        left -= 1
                    yield part

        rounds.exchange._transport = Forgetful()  # type: ignore[assignment]
        assert (await rounds.next()) is not None
        assert left == 0
        await house.stop()

    play(scenario())
