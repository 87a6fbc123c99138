"""Runs of other kinds, of one round each: without a vote, and in half the bytes."""

from ostrakon.deploy.conformance.scene import Scene
from ostrakon.deploy.conformance.stage import Stage


async def _one_phase(stage: Stage) -> None:
    await stage.server.another_run("one phase", rule="Mean1P", rounds=1)
    await stage.served(await stage.momentum())
    await stage.server.companions.submit()
    await _ends(stage, "rounds of this run have no vote")


async def _half_bytes(stage: Stage) -> None:
    await stage.server.another_run("half bytes", wire="bf16", rounds=1)
    await stage.start()
    await stage.over(await stage.expect("Join", "it is the first call"))
    if await stage.leaves():
        await stage.end(well=False, why="it cannot take part in this run, and says so")
        return
    await stage.served(await stage.momentum())
    await stage.served(await stage.candidates())
    await stage.over(await stage.vote("it forms the candidates from the aggregates, and their digests are right"))
    await _ends(stage, "no further round collects momenta")


async def _ends(stage: Stage, why: str) -> None:
    await stage.served(await stage.expect("Broadcast", why, after=1))
    stage.happened("it was told that the run is completed")
    await stage.end(well=True, why="the run is over")


SCENES = (
    Scene("no vote", "asks for what was committed", _one_phase),
    Scene("half the bytes", "sends and takes bfloat16, or ends with a sentence", _half_bytes),
)
