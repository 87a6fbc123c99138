"""Moments after which there is nothing left to do."""

from ostrakon.common.reasons import Reason
from ostrakon.deploy.conformance.companions import NAMES
from ostrakon.deploy.conformance.scene import Scene
from ostrakon.deploy.conformance.stage import WORKER, Stage
from ostrakon.server.core.refusal import Refused
from ostrakon.v1 import parameter_server_pb2 as pb


async def _another_session(stage: Stage) -> None:
    call = await stage.momentum()
    stage.server.companions.join(WORKER, session="another process")
    await stage.refused(call, Reason.OLDER_SESSION, really=True)
    await stage.end(well=False, why="two processes with one certificate would shut each other out for ever")


async def _smaller_term(stage: Stage) -> None:
    call = await stage.momentum()

    def age(answer: pb.JoinResponse) -> None:
        answer.stamp.term -= 1

    stage.server.held.next_join = age
    await stage.refused(call, Reason.WRONG_TERM)
    await stage.expect("Join", "another server answers")
    stage.happened("the answer to its Join under a smaller term than before")
    await stage.end(well=False, why="an old server, or an old copy of the run, answers there")


async def _another_run(stage: Stage) -> None:
    await stage.momentum()
    await stage.server.another_run("another")
    stage.happened("another run was begun at the address")
    call = await stage.next("its call again, or Join")
    await stage.refused(call, Reason.WRONG_RUN, really=True)
    await stage.end(well=False, why="its own run is not served there any more")
    await stage.server.restart()


async def _shut_out(stage: Stage) -> None:
    await stage.kill()
    reason = Reason.REVOKED
    stage.server.held.next_join = Refused(reason, f"the conformance run says {reason}")
    await stage.start()
    await stage.expect("Join", "it is the first call")
    stage.happened(f"its Join was refused as {reason}")
    await stage.end(well=False, why="no retry mends that")


async def _diverged(stage: Stage) -> None:
    call, round = await stage.momentum(), stage.round
    more_than_f = NAMES[: stage.server.settings.f + 1]
    await stage.server.companions.submit(dict.fromkeys(more_than_f))
    await stage.server.state.until(lambda: stage.server.state.finished is not None)
    await stage.refused(call, Reason.WRONG_ROUND, really=True)
    await stage.served(await stage.expect("Broadcast", "it has to learn what became of the run", after=round - 1))
    stage.happened("it was told that the run has diverged")
    await stage.end(well=True, why="the run is over")
    await stage.server.restart()


async def _completed(stage: Stage) -> None:
    round = stage.round
    await stage.server.restart(rounds=round)
    await stage.served(await stage.momentum())
    await stage.served(await stage.candidates())
    await stage.over(await stage.vote())
    await stage.served(await stage.expect("Broadcast", "no further round collects momenta", after=round))
    stage.happened("it was told that the run is completed")
    await stage.end(well=True, why="the run is over")


SCENES = (
    Scene("another process with its certificate", "ends with a sentence", _another_session),
    Scene("a smaller term", "ends with a sentence", _smaller_term),
    Scene("another run", "ends with a sentence", _another_run),
    Scene("shut out", "ends with a sentence", _shut_out),
    Scene("diverged", "ends", _diverged),
    Scene("completed", "ends", _completed),
)
