"""The process that others are forked from: it has imported what takes time, so that they need not."""

import signal
from collections.abc import Iterable
from multiprocessing import forkserver, get_context

from ostrakon.common.errors import OstrakonError

CONTEXT = get_context("forkserver")


def start(preloaded: Iterable[str]) -> None:
    """Start it, if it does not run yet; call it before anything starts threads here.

    It, and what is forked from it, ignore Ctrl-C and the end of the terminal: these are their parent's to answer.

    Args:
        preloaded: the modules that it imports.

    Raises:
        OstrakonError: there is no temporary folder for its socket.
    """
    CONTEXT.set_forkserver_preload([*preloaded, "ostrakon.common.frozen"])
    # From its first instruction on.
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        forkserver.ensure_running()
    except OSError as error:
        raise OstrakonError(
            f"no process can be started without a temporary folder ({error.strerror or error}): make /tmp writable, or "
            "set TMPDIR to a folder with a short path"
        ) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
