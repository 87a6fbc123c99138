"""Blocking work of several, each in a thread of its own."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def together(works: Sequence[Callable[[], T]]) -> list[T]:
    """Let all of them run to their ends; the first error of any is raised at once."""
    done: dict[int, T] = {}
    ended: queue.Queue[BaseException | None] = queue.Queue()

    def run(number: int) -> None:
        try:
            done[number] = works[number]()
            ended.put(None)
        except BaseException as error:
            ended.put(error)

    for number in range(len(works)):
        threading.Thread(target=run, args=(number,), daemon=True).start()
    for _ in works:
        if (error := ended.get(timeout=60)) is not None:
            raise error
    return [done[number] for number in range(len(works))]
