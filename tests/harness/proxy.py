"""A TCP proxy between a worker and the server that a test commands: it delays, holds back, cuts and resets."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Direction = Literal["up", "down"]  # to the server, to the worker

PIECE = 64 << 10
PIECES = 256  # under way in one direction of one connection; then the sender waits
BACKLOG = 64

T = TypeVar("T")


@dataclass
class Way:
    """One direction, for all connections. A test sets these at any time."""

    delay: float = 0.0
    """Seconds that everything takes."""
    rate: float | None = None
    """Bytes a second, of connections made from now on; None: any number."""
    left: int | None = None
    """Bytes until the connection that carries them is reset; None: any number."""
    came: int = field(default=0, init=False)  # bytes, so far
    passed: int = field(default=0, init=False)

    def spends(self, size: int) -> bool:
        """Whether these were the last bytes that a connection may carry."""
        if self.left is None:
            return False
        self.left -= size
        if self.left > 0:
            return False
        self.left = None  # the next connection is whole
        return True


class Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends: dict[Direction, tuple[socket.socket, socket.socket]] = {
            "up": (client, server),
            "down": (server, client),
        }
        self.flows: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        for flow in self.flows.values():
            flow.set()
        self.broken = asyncio.Event()

    def close(self, *, reset: bool = False) -> None:
        for end in self.ends["up"]:
            if reset:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Proxy:
    """Listens at `address` on loopback, in a thread of its own; every connection goes on to what `connect` opens."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        """`connect` opens one connection to the server, at once."""
        self._connect = connect
        self.ways: dict[Direction, Way] = {"up": Way(), "down": Way()}
        self.target = ""  # HOST:PORT, of a proxy that may be led elsewhere
        self.refuses = False  # every new connection is reset
        self._links: dict[Link, asyncio.Task[None]] = {}  # the open ones
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._accept(), self._loop)

    @classmethod
    def to(cls, address: str) -> "Proxy":
        """A proxy to HOST:PORT."""
        proxy = cls(lambda: _connect(proxy.target))
        proxy.target = address
        return proxy

    def lead_to(self, address: str) -> None:
        """New connections go to HOST:PORT, as those of a virtual address after a take-over; the others are reset."""
        if address != self.target:
            self.target = address
            self.reset()

    @property
    def up(self) -> Way:
        return self.ways["up"]

    @property
    def down(self) -> Way:
        return self.ways["down"]

    def hold(self, *directions: Direction) -> None:
        """Forward nothing more in these directions of the connections that are open now; later ones overtake them."""
        self._do(lambda: [link.flows[direction].clear() for link in self._links for direction in directions])

    def release(self) -> None:
        """Forward what was held back, though the sender may have gone."""
        self._do(lambda: [flow.set() for link in self._links for flow in link.flows.values()])

    def reset(self) -> None:
        """Reset all connections that are open now."""
        self._do(lambda: [link.broken.set() for link in self._links])

    def close(self) -> None:
        async def end() -> None:
            tasks = [
                *self._links.values(),
                *(task for task in asyncio.all_tasks() if task is not asyncio.current_task()),
            ]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def _do(self, work: Callable[[], Any]) -> None:
        async def inside() -> None:
            work()

        self._run(inside())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            try:
                if self.refuses:
                    raise ConnectionRefusedError
                server = await asyncio.to_thread(self._connect)
            except OSError:  # nobody listens: neither do we
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                continue
            for end, way in ((client, self.up), (server, self.down)):
                if way.rate is not None:  # otherwise the system takes megabytes on itself, and the sender is soon done
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, server)
            self._links[link] = asyncio.create_task(self._carry(link))

    async def _carry(self, link: Link) -> None:
        carried = asyncio.create_task(self._both_ways(link))
        broken = asyncio.create_task(link.broken.wait())
        try:
            await asyncio.wait({carried, broken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (carried, broken):
                task.cancel()
            await asyncio.wait({carried, broken})
            del self._links[link]
            link.close(reset=link.broken.is_set())

    async def _both_ways(self, link: Link) -> None:
        async with asyncio.TaskGroup() as both:
            for direction in self.ways:
                both.create_task(self._one_way(link, direction))

    async def _one_way(self, link: Link, direction: Direction) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._depart(link, direction, under_way))
            both.create_task(self._arrive(link, direction, under_way))

    async def _depart(self, link: Link, direction: Direction, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        source, way = link.ends[direction][0], self.ways[direction]
        piece = b"first"
        while piece:
            try:
                piece = await self._loop.sock_recv(source, PIECE)
            except OSError:  # a sender that goes without a word: what it sent before still arrives
                piece = b""
            way.came += len(piece)
            if way.rate is not None:
                await asyncio.sleep(len(piece) / way.rate)
            await under_way.put((self._loop.time() + way.delay, piece))

    async def _arrive(self, link: Link, direction: Direction, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        sink, way = link.ends[direction][1], self.ways[direction]
        piece = b"first"
        while piece:
            due, piece = await under_way.get()
            await asyncio.sleep(due - self._loop.time())
            await link.flows[direction].wait()
            with contextlib.suppress(OSError):  # nobody takes it any more
                if piece:
                    await self._loop.sock_sendall(sink, piece)
                else:
                    sink.shutdown(socket.SHUT_WR)
            way.passed += len(piece)
            if way.spends(len(piece)):
                link.broken.set()


def _connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)
