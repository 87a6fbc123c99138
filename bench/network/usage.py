"""What a process has used so far: time of the CPU, by thread, and memory. Linux only: it is read from /proc."""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ostrakon.common.errors import OstrakonError

_TICKS = os.sysconf("SC_CLK_TCK")
OTHERS = "threads that have ended"


@dataclass(frozen=True)
class Usage:
    """Of one process, from its start.

    Attributes:
        threads: CPU seconds by name of thread, those of the same name added.
        peak_bytes: the most memory that was resident.
    """

    threads: Mapping[str, float]
    peak_bytes: int

    @property
    def cpu(self) -> float:
        """CPU seconds of all threads."""
        return sum(self.threads.values())

    def since(self, earlier: "Usage") -> "Usage":
        """What was used between the two; the peak is this one's."""
        names = self.threads.keys() | earlier.threads.keys()
        spent = {name: self.threads.get(name, 0.0) - earlier.threads.get(name, 0.0) for name in sorted(names)}
        return Usage(spent, self.peak_bytes)


def usage(pid: int) -> Usage:
    """What a process that lives has used.

    Raises:
        OstrakonError: it has ended, or the system does not tell.
    """
    process = Path(f"/proc/{pid}")
    threads: defaultdict[str, float] = defaultdict(float)
    try:
        for thread in (process / "task").iterdir():
            try:
                name = (thread / "comm").read_text().strip()
                threads[name] += int((thread / "schedstat").read_text().split()[0]) / 1e9
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended just now
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        peak = 1024 * int((process / "status").read_text().partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        raise OstrakonError(f"/proc/{pid} tells nothing: the process has ended, or this is no Linux") from None
    whole = (int(fields[11]) + int(fields[12])) / _TICKS
    threads[OTHERS] = max(0.0, whole - sum(threads.values()))
    return Usage(dict(threads), peak)
