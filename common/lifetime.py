"""How long a process lives: until it is done, is told to stop, or has lost the launcher that started it."""

import asyncio
import multiprocessing
import signal


def stop_event(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that is set when this process should end in good order.

    It is set by SIGTERM, and, in a process that a launcher started with multiprocessing, by the launcher's death,
    even by kill -9. Ctrl-C reaches a terminal's whole process group: there it is the launcher's to answer, so that
    SIGINT is ignored in its children and sets the event only in a process started by hand.
    """
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    launcher = multiprocessing.parent_process()
    if launcher is None:
        loop.add_signal_handler(signal.SIGINT, stop.set)
        return stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sentinel = launcher.sentinel

    def orphaned() -> None:
        loop.remove_reader(sentinel)
        stop.set()

    loop.add_reader(sentinel, orphaned)
    return stop
