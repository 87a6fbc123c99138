"""Rounds of Flower, each process its own, over TLS on loopback, to set ours beside."""

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostrakon.bench.network.usage import usage
from ostrakon.common.errors import OstrakonError
from ostrakon.common.settings import TlsFiles

_PEER = Path(__file__).with_name("flower_peer.py")
_WARM = 3  # rounds that are not counted


@dataclass(frozen=True)
class FlowerRounds:
    """What rounds cost, each figure for one round: seconds, CPU seconds of the server and of one client."""

    seconds: float
    server_cpu: float
    client_cpu: float
    peak_bytes: int


def measure(python: str, n: int, d: int, server: TlsFiles, seconds: float, least: int) -> FlowerRounds:
    """Make rounds for so many seconds, and so many rounds at least, after some that are not counted.

    Args:
        python: an interpreter that has Flower: its versions of protobuf and ours exclude each other.

    Raises:
        OstrakonError: it has no Flower, or the run ended.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command, quiet = [python, str(_PEER)], subprocess.DEVNULL
    files = [str(file) for file in (server.ca, server.certificate, server.key)]
    words = [*command, "server", address, str(n), str(d), *files]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=quiet, text=True) as serving:
        clients = [
            subprocess.Popen([*command, "client", address, str(d), str(server.ca)], stdout=quiet, stderr=quiet)
            for _ in range(n)
        ]
        try:
            pids = [serving.pid, *(client.pid for client in clients)]
            _rounds(serving, _WARM)
            before, start = [usage(pid) for pid in pids], time.perf_counter()
            count = _rounds(serving, least)
            while time.perf_counter() < start + seconds:
                count += _rounds(serving, 1)
            took = time.perf_counter() - start
            served, *called = (usage(pid).since(earlier) for pid, earlier in zip(pids, before, strict=True))
        finally:
            every: list[subprocess.Popen[Any]] = [*clients, serving]
            for process in every:
                process.kill()
                process.wait()
    return FlowerRounds(took / count, served.cpu / count, sum(one.cpu for one in called) / count / n, served.peak_bytes)


def _rounds(serving: "subprocess.Popen[str]", number: int) -> int:
    """Wait until so many more rounds are over."""
    assert serving.stdout is not None
    for _ in range(number):
        if not serving.stdout.readline():
            raise OstrakonError("Flower's run ended: give an interpreter that has flwr, by its path")
    return number
