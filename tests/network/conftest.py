"""Runs over networks that this machine makes, or a reason why it cannot."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.network.distant import Distant
from tests.network.hosts import why_not

why_not = cache(why_not)


@pytest.fixture
def distant(tmp_path: Path) -> Iterator[Callable[..., Distant]]:
    """Makes clusters whose processes and hosts are gone when the test is over."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    made: list[Distant] = []

    def make(**settings: Any) -> Distant:
        made.append(Distant(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()
