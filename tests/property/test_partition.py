"""Whatever the data, the workers and the scheme: no example is held twice, none is trained on and tested on."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ostrakon.common.tasks.partition import Partition, scheme

SCHEMES = st.one_of(
    st.sampled_from(["uniform", "by_writer", "by_shards", "by_shards(shards=5)", "dirichlet(alpha=1e-6)"]),
    st.builds(
        lambda alpha, total: f"dirichlet(alpha={alpha!r}, total={total!r})",
        st.floats(1e-3, 1e3),
        st.sampled_from([1, 5.0, 62]),
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    text=SCHEMES,
    workers=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.sampled_from([0, 0, 0, 1, 2, 7, 61]), max_size=400),
    split=st.booleans(),
    size=st.integers(5, 60),
)
def test_no_example_is_held_twice_and_none_is_trained_on_and_tested_on(
    text: str, workers: int, seed: int, kinds: list[int], split: bool, size: int
) -> None:
    groups = np.array(kinds, np.int64)
    marks = np.random.default_rng(seed).random(len(groups)) < 0.3 if split else None
    sizes = {"training": size, "test": size // 5, "per_class": size // 5, "test_per_class": size}

    def made(workers: int) -> Partition:
        return scheme(text)(groups, workers, seed, is_test=marks, **sizes)

    parts, again = made(workers), made(workers)
    held = np.concatenate(parts.training)
    tested = parts.pooled if text == "uniform" else np.concatenate(parts.tests)
    assert len(parts.training) == len(parts.tests) == workers
    assert max(Counter(np.concatenate([held, tested]).tolist()).values(), default=1) == 1
    assert len(set(parts.pooled.tolist())) == len(parts.pooled)
    assert not set(held.tolist()) & set(parts.pooled.tolist())
    for mine in (*parts.training, *parts.tests, parts.pooled):
        assert mine.dtype == np.int64
        assert np.isin(mine, np.arange(len(groups))).all()
    if marks is not None:
        assert not marks[held].any()
        assert marks[tested].all() and marks[parts.pooled].all()
    assert all(map(np.array_equal, (*parts.training, *parts.tests), (*again.training, *again.tests)))
    assert np.array_equal(parts.pooled, made(workers + 1).pooled)  # an evaluator does not know the roster
