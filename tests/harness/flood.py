"""Calls as fast as one certificate can make them, over several connections, until the process is ended.

A process of its own, so that the flood and the test that watches it do not slow each other down: `Flood` starts one.
"""

import asyncio
import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import grpc

from ostrakon.common.digest import DIGEST_SCHEME
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.settings import TlsFiles
from ostrakon.common.wire import PROTOCOL, chunks
from ostrakon.v1 import parameter_server_pb2 as pb
from tests.harness.cluster import ROOT, Cluster

SERVICE = "/ostrakon.v1.ParameterServer/"
AT_A_TIME = 16  # calls on one connection; a server takes no more
SECONDS = 120  # a flood ends by itself after so long

Call = Callable[[Any, int], Any]  # (channel, number) -> a call of grpc.aio
FLOODS = ("join", "vote", "submit", "broadcast", "propose", "garbage", "unknown", "status", "cancelled")


def channel(address: str, tls: TlsFiles, role: Any = "worker") -> grpc.aio.Channel:
    """A connection of its own: channels to one address share one otherwise."""
    credentials = Credentials.load(tls, role).channel_credentials()
    return grpc.aio.secure_channel(address, credentials, options=(("grpc.use_local_subchannel_pool", 1),))


class Flood:
    """A process that makes calls under one worker's certificate for as long as the block lasts."""

    def __init__(self, run: Cluster, name: str, d: int = 170, connections: int = 8) -> None:
        tls = run.tls("worker", name)
        given = [run.address, tls["ca"], tls["certificate"], tls["key"], str(connections), str(d)]
        self.output: Path = run.folder / f"flood-{name}.log"
        self._command = [sys.executable, "-m", "tests.harness.flood", *given]

    def __enter__(self) -> Self:
        with self.output.open("w") as file:
            self._process = subprocess.Popen(self._command, stdout=file, stderr=file, cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def ended(self) -> int:
        """How many calls have ended so far, in whatever way."""
        lines = self.output.read_text().split("\n")
        return int(lines[-2]) if len(lines) > 1 and lines[-2].isdigit() else 0


def _calls(joined: pb.JoinResponse, session: str) -> dict[str, Call]:
    stamp = joined.stamp
    join = pb.JoinRequest(
        stamp=pb.Stamp(protocol=PROTOCOL),
        session=session,
        task="linear",
        parameters=joined.parameters,
        digest_scheme=DIGEST_SCHEME,
    )
    header = pb.MomentumHeader(base="0" * 64, parameters=joined.parameters, session=session, digest="1" * 64)
    broadcast = pb.BroadcastRequest(stamp=stamp, session=session).SerializeToString()
    propose = pb.ProposeRequest(stamp=stamp, session=session).SerializeToString()
    early = pb.VoteRequest(stamp=stamp, session=session, choice=pb.CHOICE_OUTER).SerializeToString()

    def unary(method: str, message: bytes) -> Call:
        return lambda channel, _: channel.unary_unary(SERVICE + method)(message, timeout=30)

    def stream(method: str, message: bytes) -> Call:
        return lambda channel, _: channel.unary_stream(SERVICE + method)(message, timeout=30).read()

    def submit(channel: Any, number: int) -> Any:
        parts = [pb.MomentumPart(stamp=stamp, header=header).SerializeToString()]
        parts += [pb.MomentumPart(stamp=stamp, chunk=one).SerializeToString() for one in chunks(_ONES)]
        return channel.stream_unary(SERVICE + "SubmitMomentum")(iter(parts), timeout=30)

    def cancelled(channel: Any, number: int) -> Any:
        call = channel.unary_unary(SERVICE + "Join")(b"\xff", timeout=30)
        asyncio.get_running_loop().call_later(0.002, call.cancel)
        return call

    joins = itertools.cycle([join.SerializeToString(), join.SerializeToString() + b"\x12\x01x"])
    return {
        "join": lambda channel, number: channel.unary_unary(SERVICE + "Join")(next(joins), timeout=30),
        "vote": unary("Vote", early),
        "submit": submit,
        "broadcast": stream("Broadcast", broadcast),
        "propose": stream("Propose", propose),
        "garbage": unary("Vote", b"\xff" * 100),
        "unknown": unary("Nothing", b""),
        "status": unary("Status", b""),
        "cancelled": cancelled,
    }


async def flood(address: str, tls: TlsFiles, connections: int, d: int) -> None:
    """Make all kinds of calls on every connection, as many at a time as it takes, one after the other."""
    channels = [channel(address, tls) for _ in range(connections)]
    request = pb.JoinRequest(
        stamp=pb.Stamp(protocol=PROTOCOL), session="flood", task="linear", parameters=d, digest_scheme=DIGEST_SCHEME
    )
    raw = await channels[0].unary_unary(SERVICE + "Join")(request.SerializeToString(), timeout=60)
    calls = _calls(pb.JoinResponse.FromString(raw), "flood")
    statuses: Counter[str] = Counter()

    async def repeat(one: Any, kind: str) -> None:
        for number in itertools.count():
            try:
                await calls[kind](one, number)
                statuses["OK"] += 1
            except grpc.aio.AioRpcError as error:
                statuses[error.code().name] += 1
            except asyncio.CancelledError:
                statuses["cancelled"] += 1

    async def report() -> None:
        while True:
            await asyncio.sleep(0.2)
            print(dict(statuses), sum(statuses.values()), sep="\n", flush=True)

    each = itertools.cycle(FLOODS)
    tasks = [repeat(one, next(each)) for one in channels for _ in range(AT_A_TIME)]
    await asyncio.wait_for(asyncio.gather(report(), *tasks), SECONDS)


if __name__ == "__main__":
    import numpy as np

    where, ca, certificate, key, count, values = sys.argv[1:]
    _ONES = np.ones(int(values), dtype=np.float32)
    files = TlsFiles(ca=Path(ca), certificate=Path(certificate), key=Path(key))
    asyncio.run(flood(where, files, int(count), int(values)))
