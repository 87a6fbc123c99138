"""What reaches a caller over gRPC when its call is refused, in the middle of an answer too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason, to_wire
from ostrakon.common.wire import IDENTITY_KEY, REFUSAL_KEY
from ostrakon.server.core.coordinator import Traffic
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.streams import Displaced, Streams
from ostrakon.server.rpc.quota import Quota
from ostrakon.server.rpc.service import Service
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.v1 import parameter_server_pb2_grpc as pb_grpc

CALLER = Identity("observer", "watcher")


class Replacing:
    """Answers Broadcast with models that are replaced in the middle of their n-th write."""

    def __init__(self, write: int) -> None:
        self.term, self.head_round = 1, 4
        self.traffic, self.settings = Traffic(), SimpleNamespace(upload_timeout=60)
        self.quota = Quota()
        self.readers = Streams[Identity]()
        self.write = write

    async def broadcast(self, caller: Identity, request: pb.BroadcastRequest, send: Any) -> None:
        try:
            with self.readers.claim(caller):
                for number in range(1, 4):
                    if number == self.write:
                        asyncio.get_running_loop().call_soon(self.readers.close_all)
                    await send(pb.ModelPart(chunk=pb.Chunk(data=bytes(1 << 20))).SerializeToString())
                await asyncio.sleep(60)
        except Displaced:
            raise Refused(Reason.MODEL_REPLACED, "ask again") from None

    def refuse(self, caller: Identity | None, reason: Reason) -> None:
        pass

    propose = vote = join = submit = restore = status = broadcast


@asynccontextmanager
async def serving(calls: Any) -> AsyncIterator[pb_grpc.ParameterServerStub]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Service(calls, secure=False),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield pb_grpc.ParameterServerStub(channel)
    await server.stop(grace=None)


@pytest.mark.parametrize("sentence", ["ends in a space ", f"{'x' * 499} cut at a space", " begins with one"])
def test_a_sentence_has_no_space_at_an_end(sentence: str) -> None:
    """Node.js, for one, drops a value of HTTP/2 that has one, and its caller reads nothing."""

    async def scenario() -> str:
        calls: Any = Replacing(0)

        def join(caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse:
            raise Refused(Reason.DIFFERENT_TASK, sentence)

        calls.join = join
        async with serving(calls) as stub:
            try:
                await stub.Join(pb.JoinRequest(), metadata=((IDENTITY_KEY, CALLER.urn),), timeout=30)
            except grpc.aio.AioRpcError as error:
                return error.details() or ""
        raise AssertionError("the call was answered")

    assert asyncio.run(scenario()) == sentence[:500].strip()


@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_reader_whose_model_is_replaced_is_told_so_at_once(write: int) -> None:
    async def scenario() -> tuple[grpc.StatusCode, dict[str, Any]]:
        async with serving(Replacing(write)) as stub:
            call = stub.Broadcast(pb.BroadcastRequest(), metadata=((IDENTITY_KEY, CALLER.urn),), timeout=30)
            try:
                async for _ in call:
                    pass
            except grpc.aio.AioRpcError as error:
                return error.code(), dict(error.trailing_metadata() or ())
        raise AssertionError("the models were sent")

    for _ in range(5):
        code, trailers = asyncio.run(asyncio.wait_for(scenario(), 60))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert pb.Refusal.FromString(trailers[REFUSAL_KEY]) == pb.Refusal(
            reason=to_wire(Reason, Reason.MODEL_REPLACED), term=1, round=5
        )


def test_an_upload_that_is_closed_while_it_is_admitted_is_told_so_at_once() -> None:
    async def scenario() -> tuple[grpc.StatusCode, int]:
        calls: Any = Replacing(0)

        async def submit(caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse:
            await anext(parts)
            try:
                with calls.readers.claim(caller):
                    asyncio.get_running_loop().call_soon(calls.readers.close_all)
                    await anext(parts)
                    await asyncio.sleep(60)
            except Displaced:
                raise Refused(Reason.LATE_SUBMISSION, "go on") from None
            raise AssertionError("it was not closed")

        calls.submit = submit
        async with serving(calls) as stub:
            call = stub.SubmitMomentum(metadata=((IDENTITY_KEY, CALLER.urn),), timeout=30)
            await call.write(pb.MomentumPart(header=pb.MomentumHeader(parameters=1)))
            trailers = dict(await call.trailing_metadata() or ())
            return await call.code(), pb.Refusal.FromString(trailers[REFUSAL_KEY]).reason

    for _ in range(5):
        found = asyncio.run(asyncio.wait_for(scenario(), 60))
        assert found == (grpc.StatusCode.FAILED_PRECONDITION, pb.REASON_LATE_SUBMISSION)
