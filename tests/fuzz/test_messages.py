"""Whatever is sent, the server answers with a status that it means, and its honest workers go on."""

import asyncio
from pathlib import Path

from tests.fuzz.messages import KINDS, Fuzzer
from tests.fuzz.siege import under_siege, without_its_model

MESSAGES = 1500


def test_no_message_harms_the_server_or_gets_a_status_that_nobody_meant(tmp_path: Path) -> None:
    with under_siege(tmp_path) as run:
        fuzzer = Fuzzer(run, seed=1)
        asyncio.run(fuzzer.fuzz(MESSAGES))
    answered = {rpc for rpc, status in fuzzer.statuses if status == "OK"}
    assert answered == set(KINDS) - {"Restore"}  # it did not only knock
    assert {("SubmitMomentum", "equivocation"), ("Vote", "no choice")} <= fuzzer.reasons.keys()
    assert {rpc for rpc, reason in fuzzer.reasons if reason == "not a message"} == set(KINDS) - {"Restore"}
    print(dict(fuzzer.statuses), dict(fuzzer.reasons))


def test_no_message_passes_for_the_model_that_a_server_has_lost(tmp_path: Path) -> None:
    with without_its_model(tmp_path) as run:
        fuzzer = Fuzzer(run, seed=1, recovering=True)
        asyncio.run(fuzzer.fuzz(MESSAGES // 4, ("Restore", "Join")))
    assert ("Restore", "OK") not in fuzzer.statuses
    reasons = {reason for rpc, reason in fuzzer.reasons if rpc == "Restore"}
    assert {"wrong digest", "wrong offset", "not a message", "no header"} <= reasons
    assert ("Join", "recovering") in fuzzer.reasons
    print(dict(fuzzer.statuses), dict(fuzzer.reasons))
