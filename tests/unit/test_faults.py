"""How users name what can break."""

import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.worker.testbed.faults import PARAMETERS, Fault, Planned, fault, fault_schedule


@pytest.mark.parametrize("known", Fault)
def test_every_fault_has_a_name(known: Fault) -> None:
    assert fault(known.value).fault is known


def test_a_parameter_has_a_default_and_can_be_set() -> None:
    assert fault("slow") == Planned(Fault.SLOW, PARAMETERS[Fault.SLOW]["seconds"])
    assert fault("slow(seconds=0.5)") == Planned(Fault.SLOW, 0.5)
    assert fault("flood(calls=10)") == Planned(Fault.FLOOD, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slient", "unknown fault 'slient'; did you mean silent"),
        ("nan(seconds=1)", r"fault nan has no parameter seconds \(known: none\)"),
        ("slow(second=1)", r"no parameter second \(known: seconds\)"),
        ("slow(seconds=0)", "seconds = 0: give a number above 0"),
        ("flood(calls=0.5)", "calls = 0.5: give a whole number above 0"),
        ("slow(seconds='long')", "seconds = 'long'"),
        ("flood(calls=True)", "calls = True"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, said: str) -> None:
    with pytest.raises(OstrakonError, match=said):
        fault(text)


def test_faults_come_and_go_with_the_rounds() -> None:
    faults = fault_schedule("silent@20,none@40")
    assert [faults.at(round) is not None for round in (19, 20, 39, 40)] == [False, True, True, False]
    assert fault_schedule(None).at(1) is None
