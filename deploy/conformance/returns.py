"""Moments of a run whose server is another one than before."""

from ostrakon.common.reasons import Reason
from ostrakon.deploy.conformance.calls import Call
from ostrakon.deploy.conformance.scene import Scene
from ostrakon.deploy.conformance.stage import Stage, Wrong

AGAIN = "it works the round again: another server knows nothing of it"


async def _restarted(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.served(call)
    await stage.server.restart()
    stage.happened("the server was started again")
    await stage.over(await _joins(stage, Reason.WRONG_TERM))
    await _works_again(stage, round, call)


async def _taken_over(stage: Stage) -> None:
    momentum, round = await stage.momentum(), stage.round
    await stage.served(momentum)
    await stage.served(await stage.candidates())
    vote = await stage.expect("Vote", "it has both candidates", round=round)
    await stage.server.take_over()
    await stage.refused(vote, Reason.WRONG_TERM, really=True)
    join = await stage.expect("Join", "another server answers, under a larger term")
    await stage.over(join)
    await _works_again(stage, round, momentum)


async def _not_joined(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    await stage.refused(call, Reason.NOT_JOINED)
    await stage.over(await stage.expect("Join", "the server does not know its session"))
    await _works_again(stage, round, call)


async def _model_lost(stage: Stage) -> None:
    await stage.whole_round()
    call, round = await stage.momentum(), stage.round
    digest = stage.server.state.chain.digest
    await stage.server.restart_without_model()
    stage.happened("the server was started again without its model")
    join = await _joins(stage, Reason.NOT_JOINED)
    if digest not in join.request.holds:
        raise Wrong("its Join did not name the committed model among those that it holds: nobody can ask it for it")
    await stage.over(join)
    await stage.served(await stage.expect("Restore", "the answer to its Join wants the model", digest=digest))
    while True:
        join = await stage.expect("Join", "the server has its model back, and has to be joined anew")
        if join.refusal is None or join.refusal.reason is not Reason.RECOVERING:
            break
    await stage.over(join)
    await _works_again(stage, round, call)


async def _joins(stage: Stage, reason: Reason) -> Call:
    """The call that broke is made again, and refused for this reason: the worker joins anew."""
    call = await stage.next("the call that broke, once more: the server is there again")
    if call.method != "Join":
        await stage.refused(call, reason, really=True)
        call = await stage.expect("Join", "another server answers, under a larger term")
    return call


async def _works_again(stage: Stage, round: int, momentum: Call) -> None:
    """It asks for the model after the last round that is committed, and sends the same momentum once more."""
    await stage.served(await stage.expect("Broadcast", AGAIN, after=round - 1))
    sent = momentum.request.header.digest
    call = await stage.expect(
        "SubmitMomentum", "a momentum is computed once for a round and a model", round=round, digest=sent
    )
    await stage.served(call)
    await stage.served(await stage.candidates())
    await stage.over(await stage.vote())


SCENES = (
    Scene("server restarted", "makes its call again, joins, and sends the same momentum again", _restarted),
    Scene("term changed", "joins, and works the round again", _taken_over),
    Scene("session lost", "joins, and works the round again", _not_joined),
    Scene("model lost", "sends the server the model that it holds, and joins again", _model_lost),
)
