"""A model is its layout, not its size: who joins with another one is told where it differs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon.common.errors import OstrakonError
from ostrakon.common.fixed_part import FixedPart
from ostrakon.common.identity import Identity
from ostrakon.common.layout import Layout
from ostrakon.common.model_file import write_model
from ostrakon.common.reasons import Reason
from ostrakon.common.safetensors_file import Tensor
from ostrakon.common.wire import PROTOCOL
from ostrakon.server.core.refusal import Refused
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.introduction import LAYOUT_BYTES, introduction
from tests.harness.house import INITIAL, House

LAYOUT: Layout = (("first.weight", (2, 3)), ("first.bias", (3,)), ("second.weight", (3, 1)))
D = 12


def constants(value: int) -> FixedPart:
    return FixedPart({}, (Tensor("steps", "I64", (), [np.array([value], dtype=np.int64)]),))


def house(folder: Path, layout: Layout = LAYOUT, fixed: FixedPart | None = None, **settings: Any) -> House:
    folder.mkdir(exist_ok=True)
    d = sum(int(np.prod(shape)) for _, shape in layout)
    write_model(folder / INITIAL, np.zeros(d, np.float32), layout, {"task": "pull"}, fixed or FixedPart())
    return House(folder, **settings)


def join(opened: House, request: pb.JoinRequest, role: Any = "worker") -> pb.JoinResponse:
    request.stamp.CopyFrom(pb.Stamp(protocol=PROTOCOL))
    request.session = "s"
    return opened.calls.join(Identity(role, "a"), request)


@pytest.mark.parametrize("role", ["worker", "observer"])
def test_who_has_the_runs_layout_is_let_in(tmp_path: Path, role: Any) -> None:
    opened = house(tmp_path)
    assert join(opened, introduction("pull", D, LAYOUT), role).parameters == D
    assert join(opened, introduction("pull", D), role).parameters == D  # who says nothing of it is compared by size


@pytest.mark.parametrize("role", ["worker", "observer"])
def test_who_has_other_options_than_the_run_is_told_which_it_has(tmp_path: Path, role: Any) -> None:
    write_model(tmp_path / INITIAL, np.zeros(D, np.float32), LAYOUT, {"task": "pull(noise=1)"})
    opened = House(tmp_path, options={"noise": 1.0})
    assert join(opened, introduction("pull(noise=1)", D, LAYOUT), role).parameters == D
    for other in ("pull", "pull(noise=2)"):
        with pytest.raises(Refused) as refused:
            join(opened, introduction(other, D, LAYOUT), role)
        assert refused.value.reason == Reason.DIFFERENT_TASK
        assert f"learns the task pull(noise=1), the worker was built for {other}: set task = 'pull'" in str(
            refused.value
        )
    other_run = tmp_path / "other"
    other_run.mkdir()
    write_model(other_run / INITIAL, np.zeros(D, np.float32), LAYOUT, {"task": "pull(noise=1)"})
    with pytest.raises(OstrakonError, match=r"was made for task pull\(noise=1\), this run's task is pull"):
        House(other_run)


@pytest.mark.parametrize("role", ["worker", "observer"])
@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        (
            (("first.weight", (3, 2)), *LAYOUT[1:]),
            "parameter 0 of this run's model is first.weight (2, 3), of the caller's first.weight (3, 2)",
        ),
        (
            (LAYOUT[0], LAYOUT[2], LAYOUT[1]),
            "parameter 1 of this run's model is first.bias (3,), of the caller's second.weight (3, 1)",
        ),
        ((*LAYOUT[:2], ("third", (3, 1))), "is second.weight (3, 1), of the caller's third (3, 1)"),
        (LAYOUT[:2], "parameter 2 of this run's model is second.weight (3, 1), of the caller's not there"),
        ((*LAYOUT, ("more", (1,))), "parameter 3 of this run's model is not there, of the caller's more (1,)"),
    ],
)
def test_another_layout_is_another_model_and_the_first_difference_is_named(
    tmp_path: Path, role: Any, layout: Layout, sentence: str
) -> None:
    opened = house(tmp_path)
    d = sum(int(np.prod(shape)) for _, shape in layout)
    with pytest.raises(Refused) as refused:
        join(opened, introduction("pull", d, layout), role)
    assert refused.value.reason == Reason.DIFFERENT_MODEL
    assert sentence in str(refused.value)


def test_a_layout_too_long_to_send_is_still_told_apart(tmp_path: Path) -> None:
    long: Layout = tuple((f"a.very.long.name.of.a.layer.{i}", (1,)) for i in range(2000))
    said = introduction("pull", 2000, long)
    assert said.ByteSize() < 2 * LAYOUT_BYTES
    assert 0 < len(said.layout) < 2000
    opened = house(tmp_path, long)
    join(opened, said)
    with pytest.raises(Refused, match=f"differ after {len(said.layout)} parameters"):
        join(opened, introduction("pull", 2000, (*long[:-1], ("another", (1,)))))


def test_frozen_parameters_and_buffers_are_compared_by_value(tmp_path: Path) -> None:
    opened = house(tmp_path, fixed=constants(3))
    join(opened, introduction("pull", D, LAYOUT, constants(3).digest()))
    for other in ("", constants(4).digest()):
        with pytest.raises(Refused, match="frozen parameters or buffers have other values"):
            join(opened, introduction("pull", D, LAYOUT, other))


def test_a_run_is_not_resumed_from_an_initial_model_of_another_layout(tmp_path: Path) -> None:
    house(tmp_path).ledger.close()
    same_size = (("first.weight", (3, 2)), *LAYOUT[1:])
    with pytest.raises(OstrakonError, match=r"is first\.weight \(2, 3\), of initial = "):
        house(tmp_path, same_size)
    house(tmp_path).ledger.close()
