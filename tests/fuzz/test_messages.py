"""Whatever is sent, the server answers with a status that it means, and its honest workers go on."""

import asyncio
from pathlib import Path

from ostrakon.common.reasons import Reason
from tests.fuzz.messages import KINDS, Fuzzer
from tests.fuzz.siege import under_siege, without_its_model

MESSAGES = 1500
MOST = 20_000  # where what is looked for needs luck with the round that is open


def test_no_message_harms_the_server_or_gets_a_status_that_nobody_meant(tmp_path: Path) -> None:
    with under_siege(tmp_path) as run:
        fuzzer = Fuzzer(run, seed=1)
        asyncio.run(fuzzer.fuzz(MESSAGES))
        while not went_deep(fuzzer) and sum(fuzzer.statuses.values()) < MOST:
            asyncio.run(fuzzer.fuzz(MESSAGES // 4))
    assert went_deep(fuzzer), (fuzzer.statuses, fuzzer.reasons)
    print(dict(fuzzer.statuses), dict(fuzzer.reasons))


def went_deep(fuzzer: Fuzzer) -> bool:
    """Whether it did not only knock: calls were answered, refused for what they mean, and could not be read."""
    kinds = set(KINDS) - {"Restore"}
    answered = {rpc for rpc, status in fuzzer.statuses if status == "OK"}
    unreadable = {rpc for rpc, reason in fuzzer.reasons if reason == Reason.NOT_A_MESSAGE}
    meant = {("SubmitMomentum", Reason.EQUIVOCATION), ("Vote", Reason.NO_CHOICE)}
    return answered == unreadable == kinds and meant <= fuzzer.reasons.keys()


def test_no_message_passes_for_the_model_that_a_server_has_lost(tmp_path: Path) -> None:
    with without_its_model(tmp_path) as run:
        fuzzer = Fuzzer(run, seed=1, recovering=True)
        asyncio.run(fuzzer.fuzz(MESSAGES // 4, ("Restore", "Join")))
    assert ("Restore", "OK") not in fuzzer.statuses
    reasons = {reason for rpc, reason in fuzzer.reasons if rpc == "Restore"}
    assert {Reason.WRONG_DIGEST, Reason.WRONG_OFFSET, Reason.NOT_A_MESSAGE, Reason.NO_HEADER} <= reasons
    assert ("Join", Reason.RECOVERING) in fuzzer.reasons
    print(dict(fuzzer.statuses), dict(fuzzer.reasons))
