"""The exact search behind MDA, against trying every set of vertices."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from ostrakon.common.aggregation.vertex_cover import has_vertex_cover


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    n = draw(st.integers(0, 9))
    pairs = list(combinations(range(n), 2))
    return n, [pair for pair in pairs if draw(st.booleans())] if pairs else []


def smallest_cover(n: int, edges: list[tuple[int, int]]) -> int:
    return next(
        size
        for size in range(n + 1)
        if any(all(a in chosen or b in chosen for a, b in edges) for chosen in combinations(range(n), size))
    )


def neighbours(n: int, edges: list[tuple[int, int]]) -> list[int]:
    result = [0] * n
    for a, b in edges:
        result[a] |= 1 << b
        result[b] |= 1 << a
    return result


@settings(max_examples=300, deadline=None)
@given(graph=graphs())
def test_a_cover_is_found_exactly_from_the_smallest_size_on(graph: tuple[int, list[tuple[int, int]]]) -> None:
    n, edges = graph
    least = smallest_cover(n, edges)
    for size in range(-1, n + 1):
        assert has_vertex_cover(neighbours(n, edges), size) == (size >= least)


def test_cycles_and_bundles_of_them() -> None:
    for lengths in ((3,), (4,), (5,), (3, 3, 7), (4, 5, 6, 3)):
        edges, start = [], 0
        for length in lengths:
            edges += [(start + step, start + (step + 1) % length) for step in range(length)]
            start += length
        needed = sum(-(-length // 2) for length in lengths)
        assert has_vertex_cover(neighbours(start, edges), needed)
        assert not has_vertex_cover(neighbours(start, edges), needed - 1)
