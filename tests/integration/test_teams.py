"""Mixed teams as real processes: whatever a minority sends, votes and breaks, the others train a model that learns."""

from collections.abc import Callable

import pytest

from ostrakon.common.reasons import Missing
from ostrakon.worker.attacks import ATTACKS
from ostrakon.worker.testbed.faults import Fault
from tests.harness.cluster import Cluster, wait_for
from tests.harness.team import LATE, MISSING, REFUSED, SLOWED, UNCERTAIN, Liar, Team

Make = Callable[..., Cluster]

ROUNDS = 24  # with liars: enough to learn, and for each stage of an attack that changes
BEGIN = 3  # the first round in which a machine fails: by then all have joined

FAULTS = (
    (Fault.SILENT, Fault.HALF_STREAM, Fault.WRONG_LENGTH, Fault.NAN, Fault.TWO_VOTES, Fault.SAME_TWICE),
    (Fault.SLOW, Fault.WRONG_OFFSET, Fault.INF, Fault.OTHER_TWICE, Fault.VOTE_AS_ANOTHER, Fault.ZEROS),
    (Fault.CRASH_BEFORE_SUBMIT, Fault.CRASH_BEFORE_VOTE, Fault.STALE_ROUND, Fault.WRONG_TERM, Fault.TWIN, Fault.HUGE),
    (Fault.CRASH_MID_STREAM, Fault.CRASH_AFTER_VOTE, Fault.FUTURE_ROUND, Fault.WRONG_RUN, Fault.FLOOD),
)
LIES: tuple[tuple[Liar, ...], ...] = (
    ({"attack": "Omn"}, {"attack": "Empire"}, {"attack": "SV"}, {"attack": "SF"}, {"byzantine_vote": "inner"}),
    ({"attack": "PGA"}, {"attack": "ALIE"}, {"attack": "IPM"}, {"attack": "Gauss"}, {"byzantine_vote": "outer"}),
    ({"attack": "Mimic"}, {"attack": "Min-Max"}, {"attack": "Min-Sum"}, {"attack": "LF"}, {"byzantine_vote": "random"}),
    (
        {"attack": "sneak"},
        {"attack": "siege"},
        {"attack": "SF", "byzantine_vote": "silent"},
        {"byzantine_vote": "pivotal"},
        {"attack": "SF@0,Omn@10,none@20"},
    ),
)


def test_the_teams_below_have_every_fault_and_every_attack() -> None:
    assert {fault for faults in FAULTS for fault in faults} == set(Fault) == set(REFUSED)
    assert {liar["attack"] for team in LIES for liar in team if "attack" in liar} >= set(ATTACKS)


@pytest.mark.parametrize("faults", FAULTS, ids=lambda faults: "+".join(fault.value for fault in faults))
def test_a_minority_of_broken_machines_is_refused_by_name_and_holds_nobody_up(
    cluster: Make, faults: tuple[Fault, ...]
) -> None:
    liars = [{"fault": f"{fault.value}@{BEGIN}"} for fault in faults]
    team = Team(cluster, liars, rounds=100_000, grace_floor=2.5)
    team.wait_for_rounds(BEGIN + 5)
    expected = {name: REFUSED[fault] for name, fault in zip(team.liars, faults, strict=True)}
    team.wait_for_refusals(expected)
    wait_for(
        lambda: all(team.refused().get(name, set()) >= expected[name] for name in expected), "the same in the ledger"
    )
    team.stop()
    team.check()
    entries = team.cluster.entries()
    for name, fault in zip(team.liars, faults, strict=True):
        if fault not in UNCERTAIN:
            assert REFUSED[fault] <= team.refused().get(name, set()) <= REFUSED[fault] | LATE, fault
        gone = [entry.round for entry in entries if entry.missing.get(name) in (Missing.NO_SUBMISSION, Missing.SILENT)]
        assert fault in SLOWED or bool(gone) == (fault in MISSING), (fault, gone)
        if fault.value.startswith("crash"):
            assert team.processes[name].wait() == -9
    assert team.measure().accuracy > 0.6


@pytest.mark.parametrize("liars", LIES, ids=lambda liars: "+".join("-".join(liar.values()) for liar in liars))
def test_a_minority_of_liars_of_several_kinds_does_not_keep_the_others_from_learning(
    cluster: Make, liars: tuple[Liar, ...]
) -> None:
    team = Team(cluster, list(liars), rounds=ROUNDS)
    assert team.server.wait() == 0, team.server.text
    for name in team.honest:
        assert team.processes[name].wait() == 0
    team.check()
    entries = team.cluster.entries()
    assert len(entries) == ROUNDS
    assert not any(entry.refused for entry in entries)
    assert all(why == Missing.NO_VOTE for entry in entries for why in entry.missing.values())
    assert team.measure().accuracy > 0.8


def test_omniscient_attackers_spoil_the_average_and_not_the_vote(cluster: Make) -> None:
    accuracy = {}
    for rule in ("Mean2P", "Avg"):
        team = Team(cluster, [{"attack": "Omn"}] * 2, name=rule, rule=rule, rounds=ROUNDS)
        assert team.server.wait() == 0, team.server.text
        accuracy[rule] = team.measure().accuracy
    assert accuracy["Mean2P"] > 0.8
    assert accuracy["Avg"] < 0.2
