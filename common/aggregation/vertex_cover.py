"""Whether few vertices meet all edges of a graph: exact search, fast where the cover is small."""


def has_vertex_cover(neighbours: list[int], size: int) -> bool:
    """Whether `size` vertices can be chosen such that every edge has one of them.

    A vertex with more neighbours than may be chosen must be chosen itself; the neighbour of a vertex of degree 1 may be
    chosen at no loss; otherwise a vertex of the largest degree, or all of its neighbours. What is left when all degrees
    are 2 is cycles. Without the bound by a matching this takes O(1.47^size) steps (Downey and Fellows).

    Args:
        neighbours: for each vertex its neighbours, as the bits of a number; symmetric, no loops.
        size: may be negative, and then no cover is small enough.

    >>> square = [0b1010, 0b0101, 0b1010, 0b0101]
    >>> has_vertex_cover(square, 1), has_vertex_cover(square, 2)
    (False, True)
    """
    alive = sum(1 << vertex for vertex, others in enumerate(neighbours) if others)
    return _search(neighbours, alive, size)


def _search(neighbours: list[int], alive: int, size: int) -> bool:
    while True:
        if size < 0:
            return False
        degrees = [((neighbours[v] & alive).bit_count(), v) for v in _bits(alive)]
        largest, hub = max(degrees, default=(0, 0))
        edges = sum(degree for degree, _ in degrees) // 2
        if largest == 0:
            return True
        if edges > size * largest:
            return False
        if largest > size:
            alive, size = alive & ~(1 << hub), size - 1
            continue
        leaf = next((v for degree, v in degrees if degree == 1), None)
        if leaf is not None:
            alive, size = alive & ~(neighbours[leaf] | 1 << leaf), size - 1
            continue
        alive = sum(1 << v for degree, v in degrees if degree)
        if largest == 2:
            return _cycles_need(neighbours, alive) <= size
        if _matching(neighbours, alive) > size:
            return False
        others = neighbours[hub] & alive
        return _search(neighbours, alive & ~(1 << hub), size - 1) or _search(
            neighbours, alive & ~(others | 1 << hub), size - others.bit_count()
        )


def _cycles_need(neighbours: list[int], alive: int) -> int:
    """The smallest cover where every vertex has two neighbours: half of each cycle, rounded up."""
    needed = 0
    while alive:
        cycle, frontier = 0, alive & -alive
        while frontier:
            cycle |= frontier
            reached = 0
            for vertex in _bits(frontier):
                reached |= neighbours[vertex]
            frontier = reached & alive & ~cycle
        needed += (cycle.bit_count() + 1) // 2
        alive &= ~cycle
    return needed


def _matching(neighbours: list[int], alive: int) -> int:
    """Edges without a common vertex, found greedily: a cover needs a vertex of each."""
    edges = 0
    for vertex in _bits(alive):
        free = neighbours[vertex] & alive if alive >> vertex & 1 else 0
        if free:
            alive &= ~(1 << vertex | free & -free)
            edges += 1
    return edges


def _bits(number: int) -> list[int]:
    found = []
    while number:
        lowest = number & -number
        found.append(lowest.bit_length() - 1)
        number ^= lowest
    return found
