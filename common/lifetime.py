"""How long a process lives: until it is done, is told to stop, or has lost the launcher that started it."""

import asyncio
import multiprocessing
import signal

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What tells a process to stop. One that was inherited as ignored, as nohup has it, stays ignored."""


def ignored(number: signal.Signals) -> bool:
    """Whether this process ignores a signal."""
    return signal.getsignal(number) is signal.SIG_IGN


def ending_signal() -> signal.Signals:
    """What a launcher ends its children with: SIGTERM, or SIGUSR1 where all of them inherited that as ignored."""
    return signal.SIGUSR1 if ignored(signal.SIGTERM) else signal.SIGTERM


def stop_event(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that is set when this process should end in good order.

    In a process started by hand SIGTERM, SIGINT and SIGHUP set it, unless they were inherited as ignored. Ctrl-C and
    the end of a terminal reach the whole process group: there they are the launcher's to answer, so that a process
    that a launcher started with multiprocessing ignores both. Its event is set by `ending_signal()` and by the
    launcher's death, even by kill -9.
    """
    stop = asyncio.Event()
    launcher = multiprocessing.parent_process()
    if launcher is None:
        for number in STOPPING:
            if not ignored(number):
                loop.add_signal_handler(number, stop.set)
        return stop
    loop.add_signal_handler(ending_signal(), stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sentinel = launcher.sentinel

    def orphaned() -> None:
        loop.remove_reader(sentinel)
        stop.set()

    loop.add_reader(sentinel, orphaned)
    return stop
