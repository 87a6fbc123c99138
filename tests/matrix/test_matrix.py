"""Every attack, every vote and every fault, each under Mean2P and under the plain average: `make test-all`."""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest

from ostrakon.common.reasons import Missing
from ostrakon.worker.attacks import ATTACKS
from ostrakon.worker.testbed.faults import Fault
from ostrakon.worker.testbed.settings import ByzantineVote
from tests.harness.cluster import Cluster
from tests.harness.team import LATE, MISSING, REFUSED, SLOWED, UNCERTAIN, Team

pytestmark = pytest.mark.matrix

Make = Callable[..., Cluster]

BYZANTINE = 2  # of 5
BEGIN = 3  # the first round in which a machine fails
SPOILT_AVERAGE = ("Omn", "PGA")  # turned around, and as far away as the grid goes
RULES = ("Mean2P", "Avg")
OF_THE_VOTE = (
    Fault.CRASH_BEFORE_VOTE,
    Fault.CRASH_AFTER_VOTE,
    Fault.TWO_VOTES,
    Fault.VOTE_AS_ANOTHER,
)  # two phases only


def digests(team: Team) -> list[str]:
    """The committed models."""
    return [entry.winner for entry in team.cluster.entries()]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The models of the average when nobody lies."""
    made: list[Cluster] = []

    def make(name: str, **settings: Any) -> Cluster:
        made.append(Cluster(tmp_path_factory.mktemp(name), **settings))
        return made[-1]

    team = Team(make, [{}] * BYZANTINE, rule="Avg", rounds=30)
    assert team.server.wait() == 0, team.server.text
    yield digests(team)
    for one in made:
        one.stop()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(cluster: Make, honest: list[str], name: str, rule: str) -> None:
    team = Team(cluster, [{"attack": name}] * BYZANTINE, rule=rule, rounds=30)
    assert team.server.wait() == 0, team.server.text
    team.check()
    entries = team.cluster.entries()
    accuracy = team.measure().accuracy
    assert not any(entry.refused for entry in entries)
    if rule == "Mean2P":
        assert len(entries) == 30
        assert accuracy > 0.8
        return
    assert not set(digests(team)) & set(honest)  # from the first round on something else was sent
    if name in SPOILT_AVERAGE:
        assert accuracy < 0.2


@pytest.mark.parametrize("vote", [vote for vote in get_args(ByzantineVote) if vote != "honest"])
def test_votes(cluster: Make, vote: str) -> None:
    team = Team(cluster, [{"attack": "SF", "byzantine_vote": vote}] * BYZANTINE, rounds=30)
    assert team.server.wait() == 0, team.server.text
    team.check()
    entries = team.cluster.entries()
    assert len(entries) == 30
    cast = [one for entry in entries for one in entry.votes if one.worker in team.liars]
    if vote in ("inner", "outer"):
        assert {one.choice for one in cast} == {vote}
    elif vote == "larger-loss":
        assert cast and all((one.choice == "inner") == (one.inner_loss > one.outer_loss) for one in cast)
    elif vote == "random":
        assert {one.choice for one in cast} == {"inner", "outer"}
    elif vote == "silent":
        assert not cast
    assert team.measure().accuracy > 0.8


@pytest.mark.parametrize(
    ("fault", "rule"),
    [(fault, rule) for fault in Fault for rule in RULES if rule == "Mean2P" or fault not in OF_THE_VOTE],
    ids=lambda value: value.value if isinstance(value, Fault) else value,
)
def test_faults(cluster: Make, fault: Fault, rule: str) -> None:
    team = Team(cluster, [{"fault": f"{fault.value}@{BEGIN}"}] * BYZANTINE, rule=rule, rounds=100_000)
    team.wait_for_rounds(BEGIN + 10)
    team.wait_for_refusals(dict.fromkeys(team.liars, REFUSED[fault]))
    team.wait_for_rounds(team.cluster.committed() + 2)
    team.stop()
    team.check()
    for name in team.liars:
        if fault not in UNCERTAIN:
            assert REFUSED[fault] <= team.refused().get(name, set()) <= REFUSED[fault] | LATE
        gone = [
            entry.round
            for entry in team.cluster.entries()
            if entry.missing.get(name) in (Missing.NO_SUBMISSION, Missing.SILENT)
        ]
        assert fault in SLOWED or bool(gone) == (fault in MISSING)
    assert (team.measure().loss < 2) == ((fault, rule) != (Fault.HUGE, "Avg"))
