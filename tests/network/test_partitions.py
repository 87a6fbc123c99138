"""A network that does not carry what it should: the run pauses below its quorum, loses nothing, and goes on."""

from collections.abc import Callable

import pytest

from tests.harness.cluster import wait_for
from tests.network.distant import HEALED, Distant

pytestmark = pytest.mark.needs_root

Make = Callable[..., Distant]

MAJORITY = ("w00", "w01")  # of three: without them a run with f = 1 is below its quorum


def started(run: Distant) -> None:
    run.server()
    run.workers()
    run.reached(3)


def partition(run: Distant, name: str, *, whole: bool) -> None:
    run.port(name).set(open=whole)


def lose_requests(run: Distant, name: str, *, whole: bool) -> None:
    run.port(name).out.open = whole


def lose_replies(run: Distant, name: str, *, whole: bool) -> None:
    run.port(name).into.open = whole


def pull_the_plug(run: Distant, name: str, *, whole: bool) -> None:
    run.hosts[name].link(up=whole)


FAULTS = [partition, lose_requests, lose_replies, pull_the_plug]


def test_a_run_does_without_a_worker_that_is_cut_off_and_takes_it_back(distant: Make) -> None:
    run = distant(grace_floor=8.0, absent_after=1)  # the others are never late, and w00 is waited for once
    started(run)
    partition(run, "w00", whole=False)
    wait_for(lambda: "w00" in run.entries()[-1].missing, "a round without w00")
    run.goes_on()
    partition(run, "w00", whole=True)
    wait_for(lambda: "w00" not in run.entries()[-1].missing, "a round with w00", HEALED)
    assert not any({"w01", "w02"} & entry.missing.keys() for entry in run.ends_well())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_whose_majority_is_cut_off_pauses_and_goes_on(distant: Make, fault: Callable[..., None]) -> None:
    """Both ways, requests only, replies only, by a link that is down."""
    run = distant()
    started(run)
    for name in MAJORITY:
        fault(run, name, whole=False)
    committed = run.pauses(*MAJORITY)
    assert [entry.hash for entry in run.entries()] == [entry.hash for entry in committed]
    for name in MAJORITY:
        fault(run, name, whole=True)
    run.goes_on()
    run.ends_well()


def test_a_run_whose_server_is_cut_off_pauses_and_goes_on(distant: Make) -> None:
    run = distant()
    started(run)
    partition(run, "server", whole=False)
    run.pauses()
    partition(run, "server", whole=True)
    run.goes_on()
    run.ends_well()


def test_a_run_goes_on_after_its_connections_were_reset(distant: Make) -> None:
    run = distant()
    started(run)
    run.port("server").set(resets=True)
    run.pauses()
    run.port("server").set(resets=False)
    run.goes_on()
    run.ends_well()


def test_a_server_on_a_host_that_lost_power_is_found_again(distant: Make) -> None:
    """Nobody tells w00, which waits in a call, that its connection is gone: it has to find out."""
    run = distant()
    server = run.server()
    run.worker("w00")
    other = run.worker("w01")
    run.reached(3)
    other.kill()
    before = run.pauses("w01", "w02")
    run.lose_power("server", server)
    run.server()
    run.worker("w01")
    run.goes_on()
    third = run.worker("w02")
    wait_for(lambda: "joined" in third.text, "the third worker")
    assert run.ends_well()[: len(before)] == before


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("victim", ["majority", "server"])
def test_a_partition_longer_than_any_timeout_heals_as_well(
    distant: Make, fault: Callable[..., None], victim: str
) -> None:
    run = distant()
    started(run)
    victims = MAJORITY if victim == "majority" else ("server",)
    for name in victims:
        fault(run, name, whole=False)
    run.pauses(*(MAJORITY if victim == "majority" else ()))
    hold(run, 60)
    for name in victims:
        fault(run, name, whole=True)
    run.goes_on()
    run.ends_well()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_worker_that_has_waited_for_minutes_notices_that_its_server_has_gone(distant: Make) -> None:
    """Its call is not cut off meanwhile, though it pings."""
    run = distant()
    server, waiting = run.server(), run.worker("w00")
    run.pauses("w01", "w02")
    hold(run, 200)
    assert "call failed" not in waiting.text.partition("joined")[2]
    run.lose_power("server", server)
    run.server()
    run.worker("w01")
    run.goes_on()
    third = run.worker("w02")
    wait_for(lambda: "joined" in third.text, "the third worker")
    run.ends_well()


def hold(run: Distant, seconds: float) -> None:
    """Nothing is committed for so long."""
    before = run.committed()
    with pytest.raises(AssertionError, match="not within"):
        run.reached(before + 1, seconds)
