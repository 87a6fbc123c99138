"""All that is measured for one n and d, in turn, and what it comes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ostrakon.bench.network import floors, flower, ours
from ostrakon.common.aggregation import rule

FLOWER = "Flower"
FLOORS: tuple[floors.Floor, ...] = ("gRPC stream", "TLS sockets")
_FLOOR_BYTES, _MOST = 2 * 10**9, 200  # what a floor moves, and in how many rounds at most: some seconds
_LEAST, _LONGEST = 5, 1000  # rounds of everything; fewer where they take long, with more workers than this over them


@dataclass(frozen=True)
class Row:
    """What a round costs: of a rule, of Flower, or of moving a rule's bytes only.

    Attributes:
        what: the rule; or the floor, with the rule whose bytes were moved.
        rounds_per_second: committed.
        server_cpu, worker_cpu: milliseconds a round, of the server and of one worker; what training and voting take
            is not in it (Flower's: all of its client).
        peak_bytes: of the server.
        received, sent: bytes a round at the server; 0 where they were not counted.
        phases: name -> milliseconds of a round, and of the server's CPU meanwhile.
        threads: name -> milliseconds of the server's CPU a round.
        promised_bytes: what our server promises to take at most, beyond an idle one; 0 for others.
    """

    what: str
    n: int
    d: int
    rounds_per_second: float
    server_cpu: float
    worker_cpu: float
    peak_bytes: int
    received: int = 0
    sent: int = 0
    phases: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    threads: Mapping[str, float] = field(default_factory=dict)
    promised_bytes: int = 0


def measure_network(
    rules: Sequence[str], n: int, d: int, seconds: float, python: str | None = None, *, crowd: bool = False
) -> list[Row]:
    """Rounds of some rules, each with its floors after it; Flower's first, where an interpreter that has it is given.

    Raises:
        OstrakonError: a rule, or Flower, could not be run.
    """
    rows: list[Row] = []
    f, least = int(0.4 * n), max(1, min(_LEAST, _LONGEST // n))
    for name in rules:
        rule(name).check_run(n, f, asynchronous=False)
    with TemporaryDirectory() as folder:
        server, client = floors.certificates(Path(folder))
        if python is not None:
            theirs = flower.measure(python, n, d, server, seconds, least)
            costs = 1e3 * theirs.server_cpu, 1e3 * theirs.client_cpu
            rows.append(Row(FLOWER, n, d, 1 / theirs.seconds, *costs, theirs.peak_bytes))
        for name in rules:
            found = ours.measure(name, n, f, d, seconds, least, crowd=crowd)
            rows.append(_row(name, n, d, found))
            moved = found.received + found.sent
            up, down = found.received // n, found.sent // n
            load = floors.Load(n, up, down, max(least, min(_MOST, _FLOOR_BYTES // moved)))
            for floor in FLOORS:
                moving = floors.measure(floor, load, server, client)
                costs = 1e3 * moving.server_cpu, 1e3 * moving.client_cpu
                what = f"{floor}, as {name}"
                rows.append(Row(what, n, d, 1 / moving.seconds, *costs, moving.peak_bytes, n * up, n * down))
    return rows


def _row(name: str, n: int, d: int, found: ours.Rounds) -> Row:
    return Row(
        name,
        n,
        d,
        1 / found.seconds,
        1e3 * found.server.cpu,
        1e3 * found.worker_cpu,
        found.server.peak_bytes,
        found.received,
        found.sent,
        {name: (1e3 * wall, 1e3 * cpu) for name, (wall, cpu) in found.phases.items()},
        {name: 1e3 * cpu for name, cpu in found.server.threads.items()},
        found.promised_bytes,
    )
