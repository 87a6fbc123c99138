"""The least that moving a round's bytes costs: through a bare gRPC stream, and through TLS on bare sockets.

One process serves and another one is all the clients, each with a connection of its own over mTLS. A round of a client
is so many bytes up and then so many down, in pieces of a chunk's size, that nobody looks at or keeps.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import grpc
import uvloop

from ostrakon.bench.network.distance import Distance, over
from ostrakon.bench.network.usage import usage
from ostrakon.common.fork_server import CONTEXT
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.runtime import allow_open_files, prepare
from ostrakon.common.settings import TlsFiles
from ostrakon.common.wire import CHUNK_BYTES
from ostrakon.deploy import certificates as issuing

Floor = Literal["gRPC stream", "TLS sockets"]

_HOST = "127.0.0.1"
_METHOD = "/ostrakon.bench.Floor/Talk"
_FILES = 4096  # that may be open: a connection of each client
_OPTIONS = (("grpc.max_receive_message_length", CHUNK_BYTES + (64 << 10)), ("grpc.use_local_subchannel_pool", 1))


@dataclass(frozen=True)
class Load:
    """What is moved: `clients` clients, `up` bytes to the server and `down` bytes to each of them a round."""

    clients: int
    up: int
    down: int
    rounds: int


@dataclass(frozen=True)
class Moved:
    """What that cost: seconds a round; CPU seconds of the server a round, and of one client a round."""

    seconds: float
    server_cpu: float
    client_cpu: float
    peak_bytes: int


def certificates(folder: Path) -> tuple[TlsFiles, TlsFiles]:
    """Those of a server and of a client, made in a folder."""
    issuing.init(folder)
    issuing.issue(folder, "server", "main")
    issuing.issue(folder, "worker", "client")
    server, client = (
        TlsFiles(ca=folder / "ca.pem", certificate=folder / f"{stem}.pem", key=folder / f"{stem}.key")
        for stem in ("server-main", "worker-client")
    )
    return server, client


def measure(floor: Floor, load: Load, server: TlsFiles, client: TlsFiles, distance: Distance | None = None) -> Moved:
    """Move a load in two processes of their own, over a distance where given, after one round that is not counted."""
    serve, call = _WAYS[floor]
    here, there = CONTEXT.Pipe()
    serving = CONTEXT.Process(target=_alone, args=(serve, there, load, server))
    serving.start()
    port = here.recv()
    ours, theirs = CONTEXT.Pipe()
    with nullcontext(port) if distance is None else over(distance, port) as there_port:
        calling = CONTEXT.Process(target=_alone, args=(call, theirs, load, client, there_port))
        calling.start()
        try:
            ours.recv()  # every client has had its first round
            pids = serving.pid or 0, calling.pid or 0
            before, start = [usage(pid) for pid in pids], time.perf_counter()
            ours.send("go")
            ours.recv()
            seconds = time.perf_counter() - start
            served, called = (usage(pid).since(earlier) for pid, earlier in zip(pids, before, strict=True))
        finally:
            for process in (calling, serving):
                process.kill()
                process.join()
    rounds = load.rounds
    return Moved(seconds / rounds, served.cpu / rounds, called.cpu / rounds / load.clients, served.peak_bytes)


def _alone(work: Callable[..., None], *arguments: Any) -> None:
    prepare(1)  # the same allocator
    allow_open_files(_FILES)
    work(*arguments)


def _pieces(size: int) -> Iterator[bytes]:
    whole = bytes(CHUNK_BYTES)
    for start in range(0, size, CHUNK_BYTES):
        yield whole[: size - start]


def _serve_grpc(parent: Connection, load: Load, files: TlsFiles) -> None:
    async def talk(requests: AsyncIterator[bytes], context: Any) -> None:
        answer = list(_pieces(load.down))
        missing = load.up
        async for piece in requests:
            missing -= len(piece)
            if not missing:
                for one in answer:
                    await context.write(one)
                missing = load.up

    async def serve() -> None:
        server = grpc.aio.server(options=_OPTIONS)
        handlers: Any = {"Talk": grpc.stream_stream_rpc_method_handler(talk)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ostrakon.bench.Floor", handlers),))
        credentials = Credentials.load(files, "server").server_credentials()
        port = server.add_secure_port(f"{_HOST}:0", credentials)
        await server.start()
        parent.send(port)
        await server.wait_for_termination()

    uvloop.run(serve())


def _call_grpc(parent: Connection, load: Load, files: TlsFiles, port: int) -> None:
    credentials = Credentials.load(files, "worker").channel_credentials()
    piece = list(_pieces(load.up))

    async def talk(call: Any, rounds: int) -> None:
        for _ in range(rounds):
            for one in piece:
                await call.write(one)
            missing = load.down
            while missing:
                missing -= len(await call.read())

    async def clients() -> None:
        channels = [grpc.aio.secure_channel(f"{_HOST}:{port}", credentials, _OPTIONS) for _ in range(load.clients)]
        calls: list[Any] = [channel.stream_stream(_METHOD)() for channel in channels]
        for rounds in (1, load.rounds):
            await asyncio.gather(*(talk(call, rounds) for call in calls))
            parent.send("done")
            await asyncio.to_thread(parent.recv)

    uvloop.run(clients())


def _serve_tls(parent: Connection, load: Load, files: TlsFiles) -> None:
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)

    def talk(line: ssl.SSLSocket) -> None:
        into, answer = bytearray(CHUNK_BYTES), list(_pieces(load.down))
        while _receive(line, into, load.up):
            for one in answer:
                line.sendall(one)

    with socket.create_server((_HOST, 0), backlog=load.clients) as door:
        parent.send(door.getsockname()[1])
        while True:
            line = context.wrap_socket(door.accept()[0], server_side=True)
            threading.Thread(target=talk, args=(line,), daemon=True).start()


def _call_tls(parent: Connection, load: Load, files: TlsFiles, port: int) -> None:
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    piece = list(_pieces(load.up))

    def talk(line: ssl.SSLSocket, rounds: int) -> None:
        into = bytearray(CHUNK_BYTES)
        for _ in range(rounds):
            for one in piece:
                line.sendall(one)
            _receive(line, into, load.down)

    def connect() -> ssl.SSLSocket:
        return context.wrap_socket(socket.create_connection((_HOST, port)), server_hostname=_HOST)

    lines = [connect() for _ in range(load.clients)]
    for rounds in (1, load.rounds):
        talking = [threading.Thread(target=talk, args=(line, rounds)) for line in lines]
        for thread in talking:
            thread.start()
        for thread in talking:
            thread.join()
        parent.send("done")
        parent.recv()


def _receive(line: ssl.SSLSocket, into: bytearray, size: int) -> bool:
    """Read so many bytes; False at the end of the stream."""
    while size:
        came = line.recv_into(into, min(size, len(into)))
        if not came:
            return False
        size -= came
    return True


def _context(purpose: Any, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


_WAYS: dict[Floor, tuple[Callable[..., None], Callable[..., None]]] = {
    "gRPC stream": (_serve_grpc, _call_grpc),
    "TLS sockets": (_serve_tls, _call_tls),
}
