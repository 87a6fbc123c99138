"""Lines that lose packets, are slow, or break inside a stream of a model larger than what the network buffers."""

from collections.abc import Callable
from typing import Any

import pytest

from ostrakon.common.reasons import Reason
from tests.harness.cluster import wait_for
from tests.network.big import D
from tests.network.distant import Distant
from tests.network.switch import Wire

pytestmark = pytest.mark.needs_root

Make = Callable[..., Distant]

MODEL = 4 * D  # bytes
BIG = {"task": "tests.network.big:Big", "gamma": 0.01}
MAJORITY = ("w00", "w01")


def started(run: Distant) -> None:
    run.server()
    run.workers()


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_a_run_goes_on_while_packets_are_lost(distant: Make, loss: float) -> None:
    run = distant()
    for name in run.roster:
        run.port(name).set(loss=loss)
    started(run)
    run.reached(5)
    for name in run.roster:
        run.port(name).set(loss=0.0)
    run.goes_on()
    run.ends_well()


@pytest.mark.parametrize("direction", ["out", "into"])
def test_a_first_stream_that_is_cut_in_the_middle_holds_the_run_up_only_while_it_is(
    distant: Make, direction: str
) -> None:
    """The upload of a momentum, or the model to start from."""
    run = distant(**BIG)
    wires = [getattr(run.port(name), direction) for name in MAJORITY]
    for wire in wires:
        wire.left = MODEL // 2
    started(run)
    wait_for(lambda: not any(wire.open for wire in wires), "streams that are cut")
    assert run.pauses(*MAJORITY) == []
    mend(wires)
    run.goes_on()
    run.ends_well()


def test_candidates_cut_in_the_middle_hold_the_run_up_only_while_they_are(distant: Make) -> None:
    run = distant(**BIG)
    started(run)
    wait_for(lambda: (entries := run.entries()) and not entries[-1].missing, "a round of all")
    wires = [run.port(name).into for name in MAJORITY]
    for wire in wires:
        wire.left = MODEL // 2  # of the two models that each of them is sent in a round
    wait_for(lambda: not any(wire.open for wire in wires), "streams that are cut")
    run.pauses(*MAJORITY)
    mend(wires)
    run.goes_on()
    run.ends_well()


def mend(wires: list[Wire]) -> None:
    for wire in wires:
        wire.left, wire.open = None, True


@pytest.mark.parametrize(
    "rate",
    [
        2_000_000,
        # A stream then takes longer than keepalive waits, and a ping waits behind it.
        pytest.param(150_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
def test_a_slow_line_costs_time_and_no_member(distant: Make, rate: int) -> None:
    patience: dict[str, Any] = {"grace_floor": 300.0, "join_timeout": 300.0}
    run = distant(**BIG, **patience)
    run.port("w00").set(rate=rate)
    server, *workers = run.server(), *run.workers()
    run.reached(1, 300)
    assert run.entries()[0].missing == {}
    assert not any("call failed" in worker.text.partition("joined")[2] for worker in workers)
    assert server.alive
    run.ends_well()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_line_that_breaks_again_and_again_takes_nobody_out_of_the_run(distant: Make) -> None:
    """Each break leaves a call open at the server that nobody waits for any more."""
    run = distant()
    started(run)
    run.reached(3)
    for _ in range(20):
        run.port("w00").set(open=False)
        wait_for(lambda: "w00" in run.entries()[-1].missing, "a round without w00")
        run.goes_on(20)
        run.port("w00").set(open=True)
        wait_for(lambda: "w00" not in run.entries()[-1].missing, "a round with w00", 20)
    assert not any(
        "w00" in entry.refused and Reason.TOO_MANY_CALLS in entry.refused["w00"] for entry in run.ends_well()
    )
