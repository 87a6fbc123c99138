"""When a run is good enough to end: what is written, and when it has come."""

import math
from pathlib import Path

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.goal import Goal, read_goal
from ostrakon.deploy.launch_settings import new_run, parse, resumed_run
from ostrakon.deploy.measured import Measurement
from ostrakon.deploy.rehearsal import rehearse_run
from ostrakon.deploy.settings import RunSettings


def measured(*values: float, name: str = "R2", shares: tuple[str, ...] = ()) -> list[Measurement]:
    """A measurement every ten rounds; its loss is 1 less what it has."""
    return [Measurement(10 * i, {name: value}, 1 - value, frozenset(shares)) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("accuracy>=0.9", Goal("accuracy", True, 0.9)),
        (" accuracy >= 90% ", Goal("accuracy", True, 0.9)),
        ("loss<=1e-3", Goal("loss", False, 0.001)),
        ("within 1 >= .5", Goal("within 1", True, 0.5)),
        ("log loss<=-2", Goal("log loss", False, -2.0)),
        ("no higher accuracy in 10", Goal("accuracy", True, times=10)),
        ("no lower within 1 in 3", Goal("within 1", False, times=3)),
    ],
)
def test_a_goal_is_read(text: str, goal: Goal) -> None:
    assert read_goal(text) == goal
    assert RunSettings(until=text).until == text


@pytest.mark.parametrize("text", ["", "0.9", "accuracy", "accuracy>0.9", "accuracy=0.9", "loss<=", "loss<=high"])
def test_what_is_no_goal_is_refused_with_what_to_write(text: str) -> None:
    for wrong in (text, f"{text} in 5", "accuracy>=nan", "no higher accuracy in 0", "no better accuracy in 5"):
        with pytest.raises(OstrakonError, match=r"is nothing that measurements come to: write accuracy>=0\.9"):
            read_goal(wrong)
    with pytest.raises(OstrakonError, match=r"setting until = .* cannot be used: .*write accuracy>=0\.9"):
        new_run(parse([f"UNTIL=x{text}y"]))


def test_a_value_is_reached_by_the_last_measurement() -> None:
    goal = read_goal("R2>=0.5")
    assert [bool(goal.met(measured(*values))) for values in ((), (0.4,), (0.6, 0.4), (0.4, 0.5))] == [0, 0, 0, 1]
    assert goal.met(measured(0.4, 0.5)) == "R2 is 0.5 in round 10"
    assert read_goal("loss<=0.25").met(measured(0.5, 0.75)) == "loss is 0.25 in round 10"
    share = measured(0.75, name="accuracy", shares=("accuracy",))
    assert read_goal("accuracy>=50%").met(share) == "accuracy is 75.0 % in round 0"


def test_a_run_has_stopped_improving_when_none_of_the_last_measurements_is_better() -> None:
    goal = read_goal("no higher R2 in 2")
    assert not goal.met(measured(0.5, 0.4))
    assert goal.met(measured(0.5, 0.4, 0.5)) == "R2 was best in round 0, 0.5, and is no better since"
    assert not goal.met(measured(0.5, 0.4, 0.51)) and not goal.met(measured(0.5, 0.6, 0.55))
    assert goal.met(measured(0.1, 0.6, 0.55, 0.59))
    assert read_goal("no lower loss in 1").met(measured(0.5, 0.25))


def test_what_is_not_finite_reaches_nothing_and_is_never_better() -> None:
    for text in ("R2>=-10", "R2<=10"):
        assert not read_goal(text).met(measured(math.nan)) and not read_goal(text).met(measured(math.inf))
    assert read_goal("no higher R2 in 2").met(measured(0.1, math.nan, math.nan))
    assert not read_goal("no higher R2 in 1").met(measured(math.nan, 0.1))


def test_a_goal_that_is_not_measured_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostrakon.deploy.rehearsal.prepare", lambda threads: None)  # it is for a process of its own
    settings = {"task": "linear", "workers": 3, "byzantine": 0, "f": 1, "attack": "none", "device": "cpu"}
    for until in ("accuracy>=0.9", "no lower loss in 2"):
        rehearse_run(RunSettings(until=until, **settings), tmp_path / "initial.safetensors")
    with pytest.raises(OstrakonError, match="UNTIL goes by 'R2', the task is measured by accuracy, loss"):
        rehearse_run(RunSettings(until="R2>=0.9", **settings), tmp_path / "initial.safetensors")


def test_a_goal_may_be_another_one_when_a_run_goes_on_and_makes_it_no_other_run() -> None:
    stored = new_run(parse(["UNTIL=accuracy>=0.9", "RULE=Avg"]))
    assert stored.run == "rule-Avg" and stored.until == "accuracy>=0.9"
    assert resumed_run(stored, parse(["UNTIL=loss<=1"])).until == "loss<=1"
    assert resumed_run(stored, parse(["UNTIL=none"])).until is None
    assert resumed_run(stored, parse([])).until == "accuracy>=0.9"
