"""A worker driven call by call from a test, over gRPC and mTLS: for saying things that no honest worker says."""

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from ostrakon.common.digest import DIGEST_SCHEME, digest
from ostrakon.common.reasons import Reason, from_wire
from ostrakon.common.wire import PROTOCOL, Vector, chunks
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.connection import Connection
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.transport import CallFailed, Models, receive_models
from tests.harness.cluster import Cluster

Change = Callable[[Any], None]


def nothing(message: Any) -> None:
    """Change nothing."""


class ByParts(Connection):
    """A connection on which a model too can be restored part by part, whatever they are."""

    async def restore_parts(self, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse:
        return await self._unary(lambda stub: stub.Restore, parts)


class DrivenWorker:
    """One roster member; every call can be bent by a function that changes the message before it is sent."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        settings = WorkerSettings.model_validate(cluster.worker_settings(name))
        self.connection = ByParts(settings.server, "worker", tls=settings.tls)
        self.session = uuid.uuid4().hex
        self.run, self.term, self.round, self.base, self.d = "", 0, 0, "", 0
        self.held: dict[str, Vector] = {}

    def stamp(self) -> pb.Stamp:
        return pb.Stamp(protocol=PROTOCOL, run=self.run, term=self.term, round=self.round)

    async def join(self, task: str = "linear", d: int = 170, change: Change = nothing) -> pb.JoinResponse:
        request = pb.JoinRequest(
            stamp=self.stamp(),
            session=self.session,
            task=task,
            parameters=d,
            digest_scheme=DIGEST_SCHEME,
            holds=list(self.held),
        )
        change(request)
        response = await self.connection.join(request)
        self.run, self.term, self.d = response.stamp.run, response.stamp.term, response.parameters
        return response

    async def receive(self, after: int = 0) -> Models:
        request = pb.BroadcastRequest(stamp=self.stamp(), after=after, holds=list(self.held), session=self.session)
        models = await receive_models(self.connection.broadcast(request), self.d)
        self.round, self.base = models.stamp.round, models.header.digests[0]
        self.held |= models.vectors
        return models

    async def submit(
        self, vector: Vector, header: Change = nothing, chunk: Change = nothing, announced: Vector | None = None
    ) -> pb.SubmitMomentumResponse:
        async def parts() -> AsyncIterator[pb.MomentumPart]:
            first = pb.MomentumPart(
                stamp=self.stamp(),
                header=pb.MomentumHeader(
                    base=self.base,
                    parameters=self.d,
                    session=self.session,
                    digest=digest(vector if announced is None else announced),
                ),
            )
            header(first)
            yield first
            for one in chunks(vector):
                chunk(one)
                yield pb.MomentumPart(stamp=self.stamp(), chunk=one)

        return await self.connection.submit_parts(parts())

    async def restore(self, model: Vector, announced: str, chunk: Change = nothing) -> pb.RestoreResponse:
        """Send a model back, under the digest that the server wants."""

        async def parts() -> AsyncIterator[pb.MomentumPart]:
            header = pb.MomentumHeader(base=announced, parameters=len(model), session=self.session, digest=announced)
            yield pb.MomentumPart(stamp=self.stamp(), header=header)
            for one in chunks(model):
                chunk(one)
                yield pb.MomentumPart(stamp=self.stamp(), chunk=one)

        return await self.connection.restore_parts(parts())

    async def candidates(self) -> Models:
        request = pb.ProposeRequest(stamp=self.stamp(), holds=list(self.held), session=self.session)
        models = await receive_models(self.connection.propose(request), self.d, count=2)
        self.held |= models.vectors
        return models

    async def vote(self, choice: pb.Choice = pb.CHOICE_INNER, change: Change = nothing) -> pb.VoteResponse:
        request = pb.VoteRequest(stamp=self.stamp(), session=self.session, choice=choice)
        change(request)
        return await self.connection.vote(request)


async def refusal(call: Any) -> tuple[str, Reason | None]:
    """Status and reason of a call that must be refused."""
    try:
        await call
    except CallFailed as failed:
        return failed.status, failed.reason
    raise AssertionError("the call was answered")


def refused(status: pb.StatusResponse) -> dict[tuple[str, Reason | None], int]:
    """How often each worker's calls were refused, by (worker, reason)."""
    return {(one.worker, from_wire(Reason, one.reason)): one.count for one in status.refused}


def random_vector(d: int, seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(d).astype(np.float32)
