"""The calls that are open, by caller: nobody may have more than a few."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from common.identity import Identity
from common.wire import MOST_OPEN_CALLS
from server.refusal import Code, Refused


class OpenCalls:
    """Counts calls while they last."""

    def __init__(self) -> None:
        self._open: Counter[Identity] = Counter()

    @contextmanager
    def admit(self, caller: Identity) -> Iterator[None]:
        """Count a call while inside.

        Raises:
            Refused: the caller has too many open already.
        """
        if self._open[caller] >= MOST_OPEN_CALLS:
            raise Refused(
                Code.RESOURCE_EXHAUSTED, "too many calls", f"{caller.urn} has {MOST_OPEN_CALLS} calls open already"
            )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    def of(self, caller: Identity) -> int:
        """How many the caller has open, with the one that asks."""
        return self._open[caller]
