"""Shares of calls: who asks for more than its own waits, and nobody waits for it."""

import asyncio
import gc

from ostrakon.common.identity import Identity
from ostrakon.common.wire import CHUNK_BYTES
from ostrakon.server.rpc.quota import FIRST_MESSAGES, FREE_CALLS, Quota
from tests.harness.scenario import cancel, play, settle

GREEDY, MODEST = Identity("worker", "a"), Identity("worker", "b")


def test_who_has_had_its_share_waits_and_the_others_do_not_and_a_new_round_brings_a_new_share() -> None:
    async def scenario() -> None:
        calls = Quota()
        for _ in range(FREE_CALLS // 2):
            await calls.turn(GREEDY, 1)
        calls.moved(GREEDY, 1000 * CHUNK_BYTES)  # a MiB counts as a call
        greedy, modest = (asyncio.create_task(calls.turn(caller, 1)) for caller in (GREEDY, MODEST))
        await settle()
        assert modest.done() and not greedy.done()
        later = asyncio.create_task(calls.turn(GREEDY, 2))
        await settle()
        assert later.done()
        await cancel(greedy)
        assert not calls._waiting

    play(scenario())


def test_few_calls_of_a_caller_bring_their_first_message_at_a_time() -> None:
    async def scenario() -> None:
        calls, reading = Quota(), 0

        async def hang(caller: Identity) -> None:
            nonlocal reading
            async with calls.first_message(caller):
                reading += 1
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(hang(GREEDY)) for _ in range(2 * FIRST_MESSAGES)]
        await settle()
        assert reading == FIRST_MESSAGES
        tasks.append(asyncio.create_task(hang(MODEST)))
        await settle()
        assert reading == FIRST_MESSAGES + 1
        await cancel(*tasks)
        tasks.clear()
        await settle()
        gc.collect()
        assert not calls._firsts

    play(scenario())
