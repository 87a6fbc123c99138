"""A coverage-guided fuzzer (atheris, with libFuzzer in it) on every parser: `python -m tests.fuzz.guided --seconds 60`.

Each parser has a process to itself, which ends at its first finding: a traceback, and a file in `findings/` of the
bytes that led to it, which `python -m tests.fuzz.guided --parser NAME --replay FILE` reads once more. `make
.venv/fuzzer` installs atheris.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

INSTRUMENTED = ["common", "deploy", "server", "worker", "numpy.lib", "tomllib"]
FINDINGS = Path("findings")
LONGEST = 4096  # bytes of an input
MEMORY, SECONDS = 2048, 20  # MiB of a process, and time for one input: more is a finding


def main() -> int:
    """Fuzz; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("--parser", metavar="NAME", action="append", help="one of them only; may be given again")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (1)")
    parser.add_argument("--jobs", type=int, default=1, help="parsers at a time (1)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read this file once more instead")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        _fuzz(given.parser[0], given.seconds, given.seed)
    from tests.fuzz.parsers import PARSERS

    names = given.parser or list(PARSERS)
    if unknown := set(names) - set(PARSERS):
        parser.error(f"no parser {', '.join(unknown)}: give one of {', '.join(PARSERS)}")
    if given.replay is not None:
        if len(names) > 1:
            parser.error("--replay reads with one parser: name it with --parser")
        print("accepted" if PARSERS[names[0]].check(given.replay.read_bytes()) else "refused")
        return 0
    if find_spec("atheris") is None:
        parser.error("atheris is not installed: make .venv/fuzzer")
    FINDINGS.mkdir(exist_ok=True)
    with ThreadPoolExecutor(given.jobs) as pool:
        found = list(pool.map(lambda name: _process(name, given.seconds, given.seed), names))
    print(f"{len(names)} parsers, {sum(found)} findings")
    return 1 if any(found) else 0


def _process(name: str, seconds: int, seed: int) -> bool:
    command = [sys.executable, "-m", "tests.fuzz.guided", "--alone", "--parser", name]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as folder:  # for all its files: it ends without deleting any
        done = subprocess.run(command, capture_output=True, env=os.environ | {"TMPDIR": folder}, check=False)
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()  # the traceback last
    if done.returncode == 0:
        print(f"{name}: {_last(lines, 'Done ')}; {_last(lines, 'cov: ')}", flush=True)
        return False
    print("\n".join((f"{name}: FOUND", *lines[-40:])), flush=True)
    return True


def _last(lines: list[str], mark: str) -> str:
    return next((line.strip() for line in reversed(lines) if mark in line), f"no {mark.strip()}")


def _fuzz(name: str, seconds: int, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.parsers import PARSERS

    parser, corpus = PARSERS[name], tempfile.mkdtemp()
    for number, example in enumerate(parser.examples()):
        (Path(corpus) / str(number)).write_bytes(example)
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-rss_limit_mb={MEMORY}", f"-timeout={SECONDS}"]
    how = ["-len_control=0", f"-seed={seed}", f"-artifact_prefix={FINDINGS / name}-"]
    atheris.Setup([name, *limits, *how, corpus], parser.check)
    atheris.Fuzz()  # and end


if __name__ == "__main__":
    sys.exit(main())
