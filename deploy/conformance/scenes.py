"""Moments of a round: late, refused, overtaken, and what comes in place of two candidates."""

import asyncio
from typing import Any, cast

import numpy as np

from ostrakon.common.reasons import Reason
from ostrakon.deploy.conformance.companions import NAMES
from ostrakon.deploy.conformance.scene import Scene
from ostrakon.deploy.conformance.stage import NAME, Stage, Wrong
from ostrakon.server.core.refusal import Code, Refused
from ostrakon.v1 import parameter_server_pb2 as pb

TRIES = 3  # of a call that is refused for now
LEAST_PAUSE = 0.2  # seconds, of all pauses between them: half of what ours take at least


async def _late(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.closed()
    await stage.refused(call, Reason.LATE_SUBMISSION, really=True)
    await stage.served(await stage.expect("Propose", "who was late for a momentum still votes", round=round))
    await stage.over(await stage.vote())


async def _call_share(stage: Stage) -> None:
    call = await stage.momentum()
    began, sent = call.at, call.request
    for _ in range(TRIES):
        await stage.refused(call, Reason.TOO_MANY_CALLS)
        call = await _the_same(stage, call)
    if call.at - began < LEAST_PAUSE:
        raise Wrong(
            f"it made its call {TRIES} times more within {call.at - began:.2f} s; expected pauses that grow, from "
            "about 0.1 s on: it would keep the server from its work"
        )
    if call.request != sent:
        raise Wrong("it sent another header when it made its call again; expected the same bytes under the same digest")
    await stage.served(call)
    await stage.served(await stage.candidates())
    await stage.over(await stage.vote())


async def _the_same(stage: Stage, call: Any) -> Any:
    return await stage.expect(call.method, "the refusal says that the same call may succeed later", round=stage.round)


async def _faults(stage: Stage) -> None:
    await stage.served(await stage.momentum())
    call = await stage.candidates()
    await stage.refused(call, Reason.SLOW_MESSAGE)
    await stage.served(await _the_same(stage, call))
    call = await stage.expect("Vote", "it has both candidates", round=stage.round)
    await stage.refused(call, Reason.INTERNAL_ERROR)
    await stage.over(
        await stage.vote("the refusal says that the same call may succeed later", choice=call.request.choice)
    )


async def _overtaken(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.without_it()
    await stage.refused(call, Reason.WRONG_ROUND, really=True)
    await stage.served(await stage.expect("Broadcast", "the others went on without it", after=round - 1))
    await stage.whole_round()


async def _displaced(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.without_it()
    await stage.refused(call, Reason.WRONG_ROUND, really=True)
    call = await stage.expect("Broadcast", "the others went on without it", after=round - 1)
    call.let_through(may_send=False)
    await asyncio.wait_for(call.sending.wait(), 10)
    await stage.without_it()
    await stage.refused(call, Reason.MODEL_REPLACED, really=True)
    why = "the model that it was reading is replaced by a newer one"
    await stage.served(await stage.expect("Broadcast", why, after=round - 1))
    await stage.whole_round()


async def _not_wanted(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.refused(call, Reason.NOT_FINITE)
    await _sits_out(stage, round, "what was refused as it is would be refused again")


async def _unknown_reason(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    refusal = Refused(Reason.EARLY_VOTE, "the conformance run says what only a newer server says")
    refusal.reason = cast(Reason, "a reason of a newer server")
    call.refuse(refusal)
    await call.over.wait()
    stage.happened(
        f"its SubmitMomentum was refused as {Code.FAILED_PRECONDITION.name} for a reason that it cannot know"
    )
    await _sits_out(stage, round, "a reason that is not known is judged by its status")


async def _sits_out(stage: Stage, round: int, why: str) -> None:
    call = await stage.expect("Broadcast", why, after=round)
    call.let_through()
    await stage.without_it()
    await stage.over(call)


async def _already_submitted(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.refused(call, Reason.ALREADY_SUBMITTED)
    await stage.closed()
    await stage.served(await stage.expect("Propose", "an earlier life's momentum counts, and it may vote", round=round))
    await stage.over(await stage.vote())


async def _no_vote(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.served(call)
    state = stage.server.state
    own = state.aggregator.row(state.roster.position(NAME)).copy()
    await stage.server.companions.submit(dict.fromkeys(NAMES, own))
    answer = await stage.served(await stage.expect("Propose", "its momentum was accepted", round=round))
    if not answer.header.HasField("decided"):
        raise RuntimeError("alike momenta have made two candidates")
    await stage.whole_round()


async def _one_is_held(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.served(call)
    d = stage.server.state.chain.genesis.parameters
    await stage.server.companions.submit(dict.fromkeys(NAMES, np.zeros(d, dtype=np.float32)))
    await stage.served(await stage.expect("Propose", "its momentum was accepted", round=round))
    await stage.over(await stage.vote("one candidate is the model that the round began with, whose bytes it holds"))


async def _damaged(stage: Stage) -> None:
    await stage.served(await stage.momentum())

    def damage(part: pb.ModelPart) -> None:
        data = bytearray(part.chunk.data)
        data[-1] ^= 1
        part.chunk.data = bytes(data)

    call = await stage.candidates()
    await stage.served(call, change=damage)
    stage.happened("it was sent a candidate whose bytes are not those that the digest names")
    await stage.served(await stage.expect("Propose", "what is damaged is asked for again", round=stage.round))
    await stage.over(await stage.vote())


async def _vote_refused(stage: Stage) -> None:
    await stage.served(await stage.momentum())
    await stage.served(await stage.candidates())
    call, round = await stage.expect("Vote", "it has both candidates", round=stage.round), stage.round
    await stage.refused(call, Reason.SECOND_VOTE)
    await _sits_out(stage, round, "a vote that was refused would be refused again")


async def _of_another_term(stage: Stage) -> None:
    await stage.served(await stage.momentum())
    await stage.served(await stage.candidates())

    def age(answer: pb.VoteResponse) -> None:
        answer.stamp.term += 1

    call, round = await stage.expect("Vote", "it has both candidates", round=stage.round), stage.round
    call.let_through(age)
    await stage.server.companions.vote("inner")
    await stage.over(call)
    stage.happened("an answer to its vote under a term that it has not joined")
    why = "such an answer is none: the call is made again"
    await stage.served(await stage.expect("Vote", why, round=round, choice=call.request.choice))


SCENES = (
    Scene("a round", "Join, Broadcast, SubmitMomentum, Propose, Vote", Stage.whole_round),
    Scene("late", "asks for the candidates and votes", _late),
    Scene("too many calls", "makes the same call again, after pauses that grow", _call_share),
    Scene("the server at fault", "makes the same call again", _faults),
    Scene("overtaken", "asks for the model of the present round", _overtaken),
    Scene("displaced", "asks again for a model that was replaced while it was sent", _displaced),
    Scene("momentum refused", "sits out the round", _not_wanted),
    Scene("a reason it cannot know", "goes by the status, and sits out the round", _unknown_reason),
    Scene("submitted by an earlier life", "asks for the candidates and votes", _already_submitted),
    Scene("equal candidates", "takes up what was decided without a vote", _no_vote),
    Scene("one candidate is held", "votes with what it holds", _one_is_held),
    Scene("damaged candidate", "checks digests, and asks again", _damaged),
    Scene("vote refused", "sits out the round", _vote_refused),
    Scene("an answer of another term", "makes the same call again", _of_another_term),
)
