"""`python -m tests.fuzz --messages 100000 --rpc Vote --seed 1`; without --rpc every RPC in turn, so many for each."""

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from tests.fuzz.messages import KINDS, Fuzzer
from tests.fuzz.siege import under_siege, without_its_model


def main() -> None:
    """Fuzz servers of its own, one for each RPC; the exit status says whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="for each RPC (100,000)")
    parser.add_argument("--rpc", choices=KINDS, action="append", help="one of them only; may be given again")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (1)")
    parser.add_argument("--jobs", type=int, default=1, help="RPCs at a time (1)")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.jobs, get_context("fork")) as pool:
        for line in pool.map(_fuzz, given.rpc or KINDS, repeat(given.messages), repeat(given.seed)):
            print(line, flush=True)


def _fuzz(rpc: str, messages: int, seed: int) -> str:
    start = time.monotonic()
    siege = without_its_model if rpc == "Restore" else under_siege
    with tempfile.TemporaryDirectory() as folder, siege(Path(folder)) as run:
        fuzzer = Fuzzer(run, seed, recovering=rpc == "Restore")
        asyncio.run(fuzzer.fuzz(messages, (rpc,)))
    seconds = time.monotonic() - start
    statuses, reasons = (
        {what: count for (name, what), count in counter.most_common() if name == rpc}
        for counter in (fuzzer.statuses, fuzzer.reasons)
    )
    told = f"{rpc}: {messages} messages, seed {seed}, {seconds:.0f} s"
    return "\n  ".join((told, str(statuses), str(reasons)))


if __name__ == "__main__":
    main()
