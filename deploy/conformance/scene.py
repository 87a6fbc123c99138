"""A moment of a run, as data."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ostrakon.deploy.conformance.stage import Stage


@dataclass(frozen=True)
class Scene:
    """One difficult moment.

    It begins with a worker that is about to send its momentum, or is not started yet, and ends with a round committed
    or the worker gone.

    Attributes:
        name: in a few words.
        right: what the worker has to do, in a sentence.
        play: makes it happen; raises `Wrong` where the worker does something else.
    """

    name: str
    right: str
    play: Callable[[Stage], Awaitable[None]]
