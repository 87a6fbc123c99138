"""Workers that say anything: by hand, call by call, with no regard for what they are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import numpy as np

from ostrakon.common.digest import DIGEST_SCHEME, digest
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import PROTOCOL, Vector, chunks
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.transport import CallFailed, receive_models
from tests.simulation.network import Line

VECTORS = ("random", "equal", "zero", "far")


def lie(rng: Random, kind: str, vector: Vector) -> Vector:
    """What is sent in place of a momentum: (d,) float32, contiguous."""
    values = {
        "random": [rng.gauss(0.0, 10.0) for _ in vector],
        "equal": [7.0] * len(vector),
        "zero": [0.0] * len(vector),
        "far": [rng.choice((-1e30, 1e30)) for _ in vector],
    }
    return np.array(values[kind], dtype=np.float32)


class Liar:
    """One life of a Byzantine worker, or of somebody who is on no roster."""

    def __init__(self, name: str, line: Line, rng: Random, d: int, note: Callable[[str, str], None]) -> None:
        self._line = line
        self._rng = rng
        self._d = d
        self._note = note
        self._session = f"{name} {rng.random()}"
        self._stamp = pb.Stamp(protocol=PROTOCOL)
        self._base = ""
        self._candidates: list[str] = []

    async def live(self) -> None:
        """Do one thing after the other, sometimes several at once, for ever."""
        deeds: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("receives", self._receive),
            ("submits", self._submit),
            ("submits another vector", self._submit),
            ("asks for the candidates", self._propose),
            ("votes", self._vote),
            ("votes twice", self._two_votes),
            ("votes in another round", self._vote_elsewhere),
            ("says nothing", self._silence),
            ("sends a wrong stamp", self._wrong_stamp),
            ("sends garbage", self._garbage),
            ("opens another session", self._another_session),
            ("reads slowly", self._read_slowly),
            ("opens many calls", self._flood),
            ("reports no finite gradient", self._not_finite),
        ]
        await self._try(self._join)
        await self._try(self._receive)
        while True:
            name, deed = self._rng.choice(deeds if self._rng.random() < 0.4 else deeds[:5])
            self._note(f"{self._session.split()[0]} {name}", f"liar {name}")
            await self._try(deed)
            await asyncio.sleep(self._rng.expovariate(10.0))

    async def _try(self, deed: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(self._rng.choice((0.05, 1.0, 10.0))):
                await deed()
        except TimeoutError:
            pass
        except CallFailed as failed:
            if (
                failed.reason in (Reason.WRONG_TERM, Reason.NOT_JOINED, Reason.OLDER_SESSION)
                or failed.status == "UNAVAILABLE"
            ):
                await asyncio.sleep(0.1)
                try:
                    async with asyncio.timeout(5.0):
                        await self._join()
                        await self._receive()
                except (CallFailed, TimeoutError):
                    await asyncio.sleep(self._rng.random())

    async def _join(self) -> None:
        head = pb.Head(round=99, hash="invented") if self._rng.random() < 0.2 else None
        holds = [self._base] if self._rng.random() < 0.8 else []
        response = await self._line.join(
            pb.JoinRequest(
                stamp=pb.Stamp(protocol=PROTOCOL, run=self._stamp.run),
                session=self._session,
                task="pull",
                parameters=self._d,
                digest_scheme=DIGEST_SCHEME,
                head=head,
                holds=holds,
            )
        )
        self._stamp = response.stamp
        if response.wanted:
            self._note(f"{self._session.split()[0]} sends another model", "liar sends another model")
            wrong = lie(self._rng, self._rng.choice(VECTORS), self._zeros())
            await self._line.restore_parts(self._parts(wrong, self._rng.choice((response.wanted, digest(wrong)))))

    async def _receive(self) -> None:
        request = pb.BroadcastRequest(stamp=self._stamp, after=max(0, self._stamp.round - 1), session=self._session)
        models = await receive_models(self._line.broadcast(request), self._d)
        self._stamp, self._base = models.stamp, models.header.digests[0]

    async def _submit(self) -> None:
        vector = lie(self._rng, self._rng.choice(VECTORS[:3] if self._rng.random() < 0.95 else VECTORS), self._zeros())
        await self._line.submit_parts(self._parts(vector, digest(vector)))

    async def _parts(self, vector: Vector, name: str) -> AsyncIterator[pb.MomentumPart]:
        """An upload, at some pace, whole or not."""
        pause = self._rng.choice((0.0, 0.0, 0.3))
        stop = self._rng.choice((None, None, None, 1))  # chunks
        yield self._header(name)
        for number, chunk in enumerate(chunks(vector)):
            if number == stop:
                return
            await asyncio.sleep(pause)
            yield pb.MomentumPart(stamp=self._stamp, chunk=chunk)

    async def _propose(self) -> None:
        await receive_models(
            self._line.propose(pb.ProposeRequest(stamp=self._stamp, session=self._session)), self._d, count=2
        )

    async def _vote(self) -> None:
        choice = self._rng.choice((pb.CHOICE_INNER, pb.CHOICE_OUTER, pb.CHOICE_OUTER))
        await self._line.vote(self._ballot(choice, self._stamp))

    async def _two_votes(self) -> None:
        both = [pb.CHOICE_INNER, pb.CHOICE_OUTER]
        self._rng.shuffle(both)
        await self._together([self._line.vote(self._ballot(choice, self._stamp)) for choice in both])

    async def _vote_elsewhere(self) -> None:
        stamp = self._changed(round=max(0, self._stamp.round + self._rng.choice((-2, -1, 1, 2, 1000))))
        await self._line.vote(self._ballot(pb.CHOICE_OUTER, stamp))

    async def _silence(self) -> None:
        await asyncio.sleep(self._rng.choice((1.0, 20.0)))

    async def _wrong_stamp(self) -> None:
        wrong = self._rng.choice(
            (
                self._changed(term=max(0, self._stamp.term + self._rng.choice((-1, 1)))),
                self._changed(run="another run"),
                self._changed(protocol=9),
            )
        )
        await self._line.vote(self._ballot(pb.CHOICE_OUTER, wrong))

    async def _garbage(self) -> None:
        rng = self._rng

        async def parts() -> AsyncIterator[pb.MomentumPart]:
            header = self._header(rng.choice(("", "not a digest", "x" * 1000)))
            header.header.parameters = rng.choice((0, self._d, 1 << 40))
            pieces = [
                header,
                pb.MomentumPart(
                    stamp=self._stamp, chunk=pb.Chunk(offset=rng.choice((0, 4, 1 << 50)), data=b"\xff" * 8)
                ),
                pb.MomentumPart(stamp=self._stamp, chunk=pb.Chunk(offset=8, data=b"\xff" * 400)),
                pb.MomentumPart(),
            ]
            rng.shuffle(pieces)
            for piece in pieces:
                yield piece

        names = [rng.choice(("", "x" * 300, self._session)) for _ in range(2)]
        await rng.choice(
            (
                lambda: self._line.submit_parts(parts()),
                lambda: self._line.join(pb.JoinRequest(stamp=self._stamp, session=names[0], task=names[1])),
                lambda: self._line.vote(pb.VoteRequest(stamp=self._stamp, session=names[0], choice=7)),
                lambda: self._line.vote(self._ballot(0, self._stamp)),
                lambda: receive_models(self._line.propose(pb.ProposeRequest(session=names[0])), self._d, count=2),
                lambda: receive_models(
                    self._line.broadcast(pb.BroadcastRequest(stamp=self._stamp, average=True, session=self._session)),
                    self._d,
                ),
            )
        )()

    async def _another_session(self) -> None:
        old, self._session = self._session, f"{self._session.split()[0]} {self._rng.random()}"
        await self._join()
        if self._rng.random() < 0.5:
            self._session = old
            await self._vote()

    async def _read_slowly(self) -> None:
        stream = self._line.broadcast(pb.BroadcastRequest(stamp=self._stamp, session=self._session))
        await anext(stream, None)
        await asyncio.sleep(self._rng.choice((1.0, 30.0)))

    async def _flood(self) -> None:
        await self._together([self._line.vote(self._ballot(pb.CHOICE_OUTER, self._stamp)) for _ in range(12)])

    async def _not_finite(self) -> None:
        async def parts() -> AsyncIterator[pb.MomentumPart]:
            header = self._header("")
            header.header.not_finite = True
            yield header

        await self._line.submit_parts(parts())

    async def _together(self, calls: list[Awaitable[object]]) -> None:
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()

    def _header(self, digest: str) -> pb.MomentumPart:
        header = pb.MomentumHeader(base=self._base, parameters=self._d, session=self._session, digest=digest)
        return pb.MomentumPart(stamp=self._stamp, header=header)

    def _ballot(self, choice: int, stamp: pb.Stamp) -> pb.VoteRequest:
        losses = (self._rng.random(), float("nan"))
        return pb.VoteRequest(
            stamp=stamp, session=self._session, choice=choice, inner_loss=losses[0], outer_loss=losses[1]
        )

    def _changed(self, **values: object) -> pb.Stamp:
        stamp = pb.Stamp()
        stamp.CopyFrom(self._stamp)
        for name, value in values.items():
            setattr(stamp, name, value)
        return stamp

    def _zeros(self) -> Vector:
        return np.zeros(self._d, dtype=np.float32)
