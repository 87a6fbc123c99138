"""`python -m tests.fuzz --messages 100000 --rpc Vote --seed 1`; without --rpc every RPC in turn, so many for each."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.messages import KINDS, Fuzzer
from tests.fuzz.siege import under_siege


def main() -> None:
    """Fuzz a server of its own; the exit status says whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="for each RPC")
    parser.add_argument("--rpc", choices=KINDS, action="append", help="one of them only; may be given again")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for rpc in given.rpc or KINDS:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, under_siege(Path(folder)) as run:
            fuzzer = Fuzzer(run, given.seed)
            asyncio.run(fuzzer.fuzz(given.messages, (rpc,)))
        seconds = time.monotonic() - start
        print(f"{rpc}: {given.messages} messages, seed {given.seed}, {seconds:.0f} s", flush=True)
        print("  ", {status: count for (_, status), count in sorted(fuzzer.statuses.items())}, flush=True)
        print("  ", dict(fuzzer.reasons.most_common()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
