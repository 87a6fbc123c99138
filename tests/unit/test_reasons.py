"""Reasons: the same on the wire, in the program and in ledgers, and no surprise to a worker that does not know one."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ostrakon.common.reasons import Missing, Reason, from_wire, to_wire
from ostrakon.common.wire import REFUSAL_KEY
from ostrakon.deploy.launch_settings import new_run, parse
from ostrakon.deploy.live import Progress
from ostrakon.server.core.refusal import CODES, Code
from ostrakon.server.storage.ledger import Entry
from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.v1 import parameter_server_pb2_grpc as pb_grpc
from ostrakon.worker.connection import Connection
from ostrakon.worker.transport import CallFailed
from tests.harness.ledger_entries import GENESIS, following

KINDS = [(Reason, pb.Reason, "REASON_"), (Missing, pb.Missing, "MISSING_")]


@pytest.mark.parametrize(("kind", "wire", "prefix"), KINDS)
def test_the_program_and_the_wire_know_the_same_reasons(kind: Any, wire: Any, prefix: str) -> None:
    assert [name for name, number in wire.items() if number] == [prefix + why.name for why in kind]
    assert sorted(wire.Value(to_wire(kind, why)) for why in kind) == list(range(1, len(kind) + 1))
    assert [from_wire(kind, wire.Value(to_wire(kind, why))) for why in kind] == list(kind)


@pytest.mark.parametrize("kind", [Reason, Missing])
def test_a_reason_is_named_as_it_is_said(kind: Any) -> None:
    assert [why.value for why in kind] == [why.name.lower().replace("_", " ") for why in kind]


@pytest.mark.parametrize(("kind", "wire", "prefix"), KINDS)
def test_a_reason_of_another_version_is_none(kind: Any, wire: Any, prefix: str) -> None:
    assert from_wire(kind, 0) is from_wire(kind, 9999) is None
    assert wire.Value(to_wire(kind, "out of tea")) == 0


def test_every_refusal_has_its_status_and_every_status_a_refusal() -> None:
    assert set(Reason) - CODES.keys() == {Reason.OLDER_SESSION_CLOSED}  # which is only counted
    assert set(CODES.values()) == set(Code)


def test_an_entry_keeps_the_words(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create(GENESIS)
    entry = following(ledger, 1)
    members = replace(entry, missing={"c": Missing.NO_VOTE}, refused={"c": {Reason.WRONG_BASE: 2}})
    words = replace(entry, missing={"c": "no vote"}, refused={"c": {"wrong base": 2}})
    assert members.to_json() == words.to_json() and members.hash == words.hash
    assert Entry.from_json(members.to_json()).missing == members.missing
    ledger.close()


def test_who_watches_reads_the_words() -> None:
    status = pb.StatusResponse(
        refused=[
            pb.RefusedCount(worker="w00", reason=to_wire(Reason, Reason.NOT_FINITE), count=2),
            pb.RefusedCount(reason=to_wire(Reason, "out of tea"), count=1),
        ],
        missing=[pb.MissingCount(worker="w01", reason=to_wire(Missing, Missing.NO_VOTE), rounds=3)],
    )
    shown = dict(Progress(new_run(parse(())), status).facts())
    assert shown["refused"] == "w00: not finite x2; a caller that is not on the roster: another reason x1"
    assert shown["missing"] == "w01: no vote x3"


@pytest.mark.parametrize("trailer", [pb.Refusal(reason=9999, term=1).SerializeToString(), b"\xff", None])
def test_a_refusal_whose_reason_a_worker_does_not_know_is_known_by_its_status(trailer: bytes | None) -> None:
    async def refuse(request: pb.VoteRequest, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        trailing = () if trailer is None else ((REFUSAL_KEY, trailer),)
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no tea", trailing_metadata=trailing)

    async def scenario() -> CallFailed:
        server = grpc.aio.server()
        servicer = pb_grpc.ParameterServerServicer()
        servicer.Vote = refuse
        pb_grpc.add_ParameterServerServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with Connection(f"127.0.0.1:{port}", "worker", id="a") as connection:
                with pytest.raises(CallFailed) as caught:
                    await connection.vote(pb.VoteRequest())
                return caught.value
        finally:
            await server.stop(grace=None)

    failed = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert (failed.status, failed.reason, str(failed)) == ("FAILED_PRECONDITION", None, "no tea")
