"""docs/wire.md names every call, field, reason and number of the contract, as the code has them."""

import importlib
import re
from typing import Any

import pytest

from ostrakon.common.reasons import Reason
from ostrakon.deploy.conformance.trial import SCENES
from ostrakon.server.core.refusal import CODES, Code
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.part import UNREACHABLE, Again, Failed, GiveUp, Inspect, Join, Part, Receive, advance
from tests.harness.cluster import ROOT
from tests.unit.test_part import at_round

PAGE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
PROTO = (ROOT / "protos" / "ostrakon" / "v1" / "parameter_server.proto").read_text(encoding="utf-8")
ROUND = 4  # of `at_round`


def table(header: str) -> list[list[str]]:
    """The cells of the table whose first column has this header; code marks are taken off the first one."""
    (found,) = re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found.splitlines()]
    return [[row[0].strip("`"), *row[1:]] for row in rows]


def refusals() -> list[tuple[str, str, str, str]]:
    """Name, status, when and what to do, of every reason on the page that this program has."""
    rows = [(name.removeprefix("REASON_"), *cells) for name, *cells in table("reason")]
    return [row for row in rows if row[0] in Reason.__members__]  # type: ignore[misc]


def test_every_call_has_its_place() -> None:
    methods = pb.DESCRIPTOR.services_by_name["ParameterServer"].methods
    calls = PAGE.partition("\n## The calls\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^### (\w+)$", calls, re.MULTILINE)) == sorted(method.name for method in methods)


@pytest.mark.parametrize("message", pb.DESCRIPTOR.message_types_by_name.values(), ids=lambda message: message.name)
def test_every_message_is_a_table_of_its_fields(message: Any) -> None:
    assert [name for name, *_ in table(f"`{message.name}`")] == [field.name for field in message.fields]


@pytest.mark.parametrize("enum", [pb.Wire, pb.RunPhase, pb.Choice, pb.Missing], ids=lambda enum: enum.DESCRIPTOR.name)
def test_every_value_is_named(enum: Any) -> None:
    assert [name for name, *_ in table(f"`{enum.DESCRIPTOR.name}`")] == enum.keys()


def test_every_reason_has_its_status() -> None:
    assert sorted(name for name, *_ in refusals()) == sorted(why.name for why in Reason)
    for name, status, *_ in refusals():
        assert status == (CODES[Reason[name]].name if Reason[name] in CODES else ""), name


def test_the_page_and_the_proto_say_the_same_of_every_reason() -> None:
    found = re.findall(r"^  REASON_(\w+) = [1-9]\d*; +// (.*)$", PROTO, re.MULTILINE)
    said = {name: tuple(text.split(" -> ")) for name, text in found}
    assert {name: (when, do) if do != "only counted" else (when,) for name, _, when, do in refusals()} == said


@pytest.mark.parametrize(("name", "status", "do"), [(name, status, do) for name, status, _, do in refusals()])
def test_our_own_worker_does_what_the_page_says(name: str, status: str, do: str) -> None:
    failed = Failed(status, Reason[name], "because")
    action = advance(at_round(ROUND), failed)
    match do.partition(":")[0]:
        case "again" | "the same upload over one stream":  # where that one is refused so too
            assert action == Again(0) == advance(Part(), failed)
        case "end":
            assert action == GiveUp("because") == advance(Part(), failed)
        case "sit out":
            assert action == Receive(ROUND)
        case "end, or sit out":
            assert action == Receive(ROUND) and advance(Part(), failed) == GiveUp("because")
        case "go on":
            assert action == Inspect(ROUND, "base")
        case "ask":
            assert action == Receive(ROUND - 1)
        case "Join":
            assert action == Join()
        case other:
            assert other in ("no worker makes one", "only counted")


def test_our_own_worker_goes_by_the_status_where_there_is_no_reason() -> None:
    rows = {status: do for row in table("status") for status in row[0].split(", ") for do in row[1:]}
    assert {status for status, do in rows.items() if do == "again"} == set(UNREACHABLE)
    for code in Code:
        action = advance(at_round(ROUND), Failed(code.name, None, "because"))
        expected = {"again": Again(0), "end": GiveUp("because")}.get(rows.get(code.name, ""), Receive(ROUND))
        assert action == expected, code


@pytest.mark.parametrize("row", re.findall(r"^\| .* \| (.*) \| `(ostrakon\.[\w.]+)\.(\w+)` \|$", PAGE, re.MULTILINE))
def test_every_number_is_the_codes(row: tuple[str, str, str]) -> None:
    value, module, name = row
    assert value == str(getattr(importlib.import_module(module), name))


def test_every_scene_of_the_conformance_run_is_listed() -> None:
    assert [(name, right) for name, right in table("scene")] == [(scene.name, scene.right) for scene in SCENES]
