"""A long line on one machine: a TCP proxy, in a process of its own, that delays what passes and limits how much."""

import asyncio
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from ostrakon.common.fork_server import CONTEXT

_HOST = "127.0.0.1"
_PIECE = 128 << 10
_QUEUE = 0.002  # seconds of bytes that wait at the line's beginning; then senders wait


@dataclass(frozen=True)
class Distance:
    """`delay`: seconds each way; `rate`: bytes a second each way, of all connections together."""

    delay: float
    rate: float

    def seconds(self, size: int) -> float:
        """The least that so many bytes take, with the answer to them."""
        return size / self.rate + 2 * self.delay


@contextmanager
def over(distance: Distance, port: int) -> Iterator[int]:
    """The port of a proxy to another port, for as long as the context is open."""
    here, there = CONTEXT.Pipe()
    proxy = CONTEXT.Process(target=_serve, args=(distance, port, there))
    proxy.start()
    try:
        yield here.recv()
    finally:
        proxy.kill()
        proxy.join()


@dataclass
class _Way:
    """One direction of the line; `free` is when it has sent what it took."""

    distance: Distance
    free: float = field(default=0.0)

    def arrives(self, size: int, now: float) -> float:
        self.free = max(self.free, now) + size / self.distance.rate
        return self.free + self.distance.delay


def _serve(distance: Distance, port: int, parent: Connection) -> None:
    asyncio.run(_accept(distance, port, parent))


async def _accept(distance: Distance, port: int, parent: Connection) -> None:
    loop, carrying = asyncio.get_running_loop(), set()
    up, down = _Way(distance), _Way(distance)
    door = socket.create_server((_HOST, 0))
    door.setblocking(False)
    parent.send(door.getsockname()[1])
    while True:
        client, _ = await loop.sock_accept(door)
        server = socket.create_connection((_HOST, port))
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        carrying |= {
            asyncio.create_task(_carry(client, server, up)),
            asyncio.create_task(_carry(server, client, down)),
        }


async def _carry(source: socket.socket, sink: socket.socket, way: _Way) -> None:
    under_way: deque[tuple[float, bytes]] = deque()
    came = asyncio.Event()
    delivering = asyncio.create_task(_deliver(sink, under_way, came))
    loop = asyncio.get_running_loop()
    piece = b"first"
    while piece:
        try:
            piece = await loop.sock_recv(source, _PIECE)
        except OSError:
            piece = b""
        under_way.append((way.arrives(len(piece), loop.time()), piece))
        came.set()
        if (ahead := way.free - loop.time()) > _QUEUE:
            await asyncio.sleep(ahead - _QUEUE)
    await delivering


async def _deliver(sink: socket.socket, under_way: deque[tuple[float, bytes]], came: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    piece = b"first"
    with suppress(OSError):  # whoever it was for has gone
        while piece:
            while not under_way:
                came.clear()
                await came.wait()
            due, piece = under_way.popleft()
            await asyncio.sleep(due - loop.time())
            if piece:
                await loop.sock_sendall(sink, piece)
        sink.shutdown(socket.SHUT_WR)
