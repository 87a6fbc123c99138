"""Rounds of Flower, each process its own, over TLS on loopback, to set ours beside."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostrakon.bench.network.usage import usage
from ostrakon.common.errors import OstrakonError
from ostrakon.common.settings import TlsFiles
from ostrakon.deploy.run_folder import HOST, free_port

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
    if shutil.which(python) is None:
        raise OstrakonError(f"{python} is no interpreter: give the path of one that has flwr")
    address = f"{HOST}:{free_port()}"
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
            lines = serving.stdout or iter(())
            _rounds(lines, _WARM)
            before, start = [usage(pid) for pid in pids], time.perf_counter()
            count = _rounds(lines, least)
            while time.perf_counter() < start + seconds:
                count += _rounds(lines, 1)
            took = time.perf_counter() - start
            served, *called = (usage(pid).since(earlier) for pid, earlier in zip(pids, before, strict=True))
        finally:
            every: list[subprocess.Popen[Any]] = [*clients, serving]
            for process in every:
                process.kill()
                process.wait()
    return FlowerRounds(took / count, served.cpu / count, sum(one.cpu for one in called) / count / n, served.peak_bytes)


def _rounds(lines: Iterator[str], number: int) -> int:
    """Wait until so many more rounds are over, of which the server writes a line each."""
    for _ in range(number):
        if not next(lines, ""):
            raise OstrakonError("Flower's run ended: give an interpreter that has flwr, by its path")
    return number
