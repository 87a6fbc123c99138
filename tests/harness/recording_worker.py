"""A worker or an evaluator that keeps every head it is told of in a file, before it does anything about it.

What is written survives this process's SIGKILL: it is the kernel's then. It is meant to be compared with the ledger.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostrakon.common.toml_file import read_toml
from ostrakon.v1 import parameter_server_pb2 as pb

SUFFIX = ".told"


@dataclass(frozen=True)
class Told:
    """One head: what a server of this term called the last committed round, and its entry's hash."""

    term: int
    round: int
    hash: str


def told_by(folder: Path) -> dict[str, list[Told]]:
    """What the recorders of a folder were told, each in its order; over all lives of each."""
    found: dict[str, list[Told]] = {}
    for path in folder.glob(f"*{SUFFIX}"):
        lines = [line.split() for line in path.read_text().splitlines()]
        found[path.stem] = [Told(int(term), int(round), hash) for term, round, hash in lines]
    return found


def last_round(folder: Path) -> int:
    """The largest round that a recorder was told of last; reads the end of each file only."""
    rounds = [0]
    for path in folder.glob(f"*{SUFFIX}"):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 512))
            lines = file.read().splitlines()
        if lines:
            rounds.append(int(lines[-1].split()[1]))
    return max(rounds)


def main(config: Path, log_file: Path) -> None:
    """Take part, or evaluate where the settings say where to."""
    from ostrakon.worker import connection, process
    from ostrakon.worker.evaluator import process as evaluator

    told = os.open(config.with_suffix(SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def keep(stamp: pb.Stamp, head: pb.Head) -> None:
        if head.round:
            os.write(told, f"{stamp.term} {head.round} {head.hash}\n".encode())

    _listen(connection.Connection, keep)
    (evaluator if "output" in read_toml(config) else process).main(config, log_file)


def _listen(kind: Any, keep: Any) -> None:
    vote, stream = kind.vote, kind._stream

    async def hearing_vote(self: Any, request: pb.VoteRequest) -> pb.VoteResponse:
        response: pb.VoteResponse = await vote(self, request)
        keep(response.stamp, response.commit.head)
        return response

    async def hearing_stream(self: Any, *call: Any) -> AsyncIterator[Any]:
        async for part in stream(self, *call):
            if part.HasField("header"):
                header = part.header
                keep(part.stamp, header.decided.head if header.HasField("decided") else header.head)
            yield part

    kind.vote, kind._stream = hearing_vote, hearing_stream
