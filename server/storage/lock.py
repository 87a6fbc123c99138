"""The run's lock: nobody starts a second server by mistake. It is no fence: the term is."""

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import structlog

from ostrakon.common.errors import OstrakonError

log = structlog.get_logger()


@contextmanager
def locked(path: Path, address: str, *, take_over: bool) -> Iterator[None]:
    """Hold the lock; with `take_over` also while another process does, and from then on when that has ended.

    Raises:
        OstrakonError: another process holds it, naming that.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            if not take_over:
                raise OstrakonError(
                    f"the run in {path.parent} is served already, by {holder}: stop that server, or start this one "
                    "with --take-over if it no longer answers"
                ) from None
            log.warning("taking over", holder=holder)
            threading.Thread(target=_inherit, args=(os.dup(file.fileno()),), daemon=True).start()
        _sign(file, address)
        yield


def _sign(file: TextIO, address: str) -> None:
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, at {address}\n")
    file.flush()


def _inherit(descriptor: int) -> None:
    """Wait for the lock: it is held through any descriptor of this open file, until the process ends."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
