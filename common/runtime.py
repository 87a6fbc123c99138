"""What every process does before it works: allocator, threads, log. What it tells of its memory, and of its end."""

import contextlib
import ctypes
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import structlog

from ostrakon.common.errors import OstrakonError, file_trouble
from ostrakon.common.traces import last_line, place

ERROR, DIED = "error: ", "died: "
"""How the last line of a process begins that ended with status 2, or with status 1."""

# glibc's mallopt, <malloc.h>.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

PR_SET_NAME = 15  # <sys/prctl.h>


def prepare(threads: int) -> None:
    """Set up this process for large vectors.

    Args:
        threads: CPU threads for torch; 0 leaves one per core.
    """
    import torch  # not above: a launcher needs the rest of this module at once

    _tune_allocator()
    if threads:
        torch.set_num_threads(threads)


def _tune_allocator() -> None:
    # glibc would map and unmap memory for every chunk: twice the CPU per transferred byte. Chunks come from the heap
    # instead, which is then never trimmed, and there is one heap for all threads: each would keep its own peak.
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_ARENA_MAX, 1)


def name_thread(name: str) -> None:
    """Name the running thread, in up to 15 characters, for `top -H` and /proc."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def allow_open_files(number: int) -> bool:
    """Let this process have that many files and connections open, as far as the system lets it; whether it does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted == number


def peak_bytes() -> int:
    """Peak resident memory of this process so far, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):  # not Linux; there the figure may include what the parent had
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def process_age() -> float:
    """Seconds since this process was started, imports included; 0 where the system does not tell."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError):  # not Linux
        return 0.0


def start_log(path: Path | None) -> None:
    """Log events as lines to a file, or readably to the terminal when there is none."""
    stream: TextIO = sys.stderr
    if path is not None:
        with contextlib.suppress(OSError):  # where the disk takes no log, what is to be said goes to the terminal
            stream = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if path is None
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def quiet_log() -> None:
    """Inside somebody else's program that has set up no log of events: show warnings alone, where errors go."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        )


def run_to_exit(work: Callable[[], None], log: Path | None) -> None:
    """Run a process's work and turn what stopped it into an exit status.

    Exit status 0: done. 2: a user's error, or a file or disk that has to be mended before it can go on; its sentence is
    on the last line, after `error: `. 1: it died of what nobody foresaw or of what may pass, so that whoever started it
    may do so again; the last line says of what and where, after `died: `.
    """
    try:
        work()
    except OstrakonError as error:
        _tell(f"{ERROR}{error}", log)
        sys.exit(2)
    except Exception as error:
        trouble = file_trouble(error) if isinstance(error, OSError) else None
        if trouble is not None:
            _tell(f"{ERROR}{trouble}", log)
            sys.exit(2)
        if log is not None or not isinstance(error, OSError):  # what the system says is told on a terminal without it
            structlog.get_logger().exception("died")
        _tell(f"{DIED}{last_line(error)}{place(error, ours=True)}", log)
        sys.exit(1)
    sys.exit(0)


def _tell(line: str, log: Path | None) -> None:
    if log is None:
        print(line, file=sys.stderr)
        return
    try:
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")
    except OSError:  # the log lies on the disk that is full, or read-only
        print(line, file=sys.stderr)
