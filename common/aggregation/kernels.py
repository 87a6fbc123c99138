"""What a GPU computes in one pass over the rows, in Triton, which comes with builds of torch for CUDA.

Each program takes some columns and keeps what it makes of them in registers. It writes results of its own: nothing is
added up in an order that chance decides. `fused.py` and `fused_distances.py` launch them and say what they are.
"""

# ruff: noqa: RUF005 (Triton knows no unpacking)

import triton
import triton.language as tl

LANES = tl.constexpr(32)


@triton.jit
def _added(sums, a, b, column, d, SIZE_A: tl.constexpr, SIZE_B: tl.constexpr, UNROLL: tl.constexpr, KIND, MASKED):
    """The sums and the squared differences of UNROLL * 32 columns, added up among themselves first."""
    left = ()
    right = ()
    for u in tl.static_range(UNROLL):
        at = column + u * LANES
        for i in tl.static_range(SIZE_A):
            left = left + (tl.load(a[i] + at, mask=at < d, other=0.0) if MASKED else tl.load(a[i] + at),)
        for j in tl.static_range(SIZE_B):
            right = right + (tl.load(b[j] + at, mask=at < d, other=0.0) if MASKED else tl.load(b[j] + at),)
    added = ()
    for i in tl.static_range(SIZE_A):
        for j in tl.static_range(SIZE_B):
            difference = left[i].to(KIND) - right[j].to(KIND)
            squares = difference * difference
            for u in tl.static_range(1, UNROLL):
                difference = left[u * SIZE_A + i].to(KIND) - right[u * SIZE_B + j].to(KIND)
                squares += difference * difference
            added = added + (sums[i * SIZE_B + j] + squares,)
    return added


@triton.jit
def squared_distances(
    x,
    stride,
    first,
    second,
    partial,
    d,
    tiles,
    chunks,
    KIND: tl.constexpr,
    SIZE_A: tl.constexpr,
    SIZE_B: tl.constexpr,
    PAIRS: tl.constexpr,
    TILES: tl.constexpr,
    UNROLL: tl.constexpr,
    STEPS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Of each tile, SIZE_A rows by SIZE_B rows of x, the squared distances in one span of columns.

    A warp takes a tile, a program TILES of them for the same columns, so that most rows come from the first-level
    cache. `first` is (tiles, SIZE_A) and `second` (tiles, SIZE_B): row numbers; `partial` is (spans, tiles, SIZE_A,
    SIZE_B), of type KIND; a span has STEPS * UNROLL * 32 columns. PAIRS is a power of two from 32, not below
    SIZE_A * SIZE_B.
    """
    program = tl.program_id(0)
    span = program // chunks
    tile = (program % chunks) * TILES + tl.arange(0, TILES)
    known = tile < tiles
    start = span.to(tl.int64) * (STEPS * UNROLL * LANES)
    lane = tl.arange(0, LANES)[None, :]
    a = ()
    b = ()
    for i in tl.static_range(SIZE_A):
        a = a + ((x + tl.load(first + tile * SIZE_A + i, mask=known, other=0) * stride)[:, None],)
    for j in tl.static_range(SIZE_B):
        b = b + ((x + tl.load(second + tile * SIZE_B + j, mask=known, other=0) * stride)[:, None],)
    sums = ()
    for _ in tl.static_range(SIZE_A * SIZE_B):
        sums = sums + (tl.zeros([TILES, LANES], dtype=KIND),)
    whole = tl.minimum((d - start) // (UNROLL * LANES), STEPS).to(tl.int32)
    for step in tl.range(0, whole, num_stages=STAGES):
        sums = _added(sums, a, b, start + step * (UNROLL * LANES) + lane, d, SIZE_A, SIZE_B, UNROLL, KIND, False)
    for step in range(whole, tl.minimum(whole + 1, STEPS)):  # what is left of the last span, if it is this one
        sums = _added(sums, a, b, start + step * (UNROLL * LANES) + lane, d, SIZE_A, SIZE_B, UNROLL, KIND, True)
    pair = tl.arange(0, PAIRS)[None, :]
    result = tl.zeros([TILES, PAIRS], dtype=KIND)  # one store of all costs less than one of each
    for i in tl.static_range(SIZE_A * SIZE_B):
        result = tl.where(pair == i, tl.sum(sums[i], axis=1)[:, None], result)
    place = (span.to(tl.int64) * tiles + tile)[:, None] * (SIZE_A * SIZE_B) + pair
    tl.store(partial + place, result, mask=known[:, None] & (pair < SIZE_A * SIZE_B))


@triton.jit
def means(
    x,
    stride,
    rows,
    members,
    divisors,
    results,
    out,
    n,
    m,
    d,
    SETS: tl.constexpr,
    UNROLL: tl.constexpr,
    WIDTH: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """The means of m sets of rows in WIDTH columns, SETS of them at a time.

    `rows` are n row numbers of x in the order of summation; `members` (m / SETS rounded up, n) int32 has the bits of
    who is in which of these SETS; n is a multiple of UNROLL, filled up with members of no set. `results` says where in
    `out` each mean begins.
    """
    column = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    inside = column < d
    for tile in range(0, tl.cdiv(m, SETS)):
        sums = ()
        for _ in tl.static_range(SETS):
            sums = sums + (tl.zeros([WIDTH], dtype=tl.float64),)
        for row in range(0, n, UNROLL):
            values = ()
            for u in tl.static_range(UNROLL):
                at = tl.load(rows + row + u) * stride
                values = values + (tl.load(x + at + column, mask=inside, other=0.0),)
            for u in tl.static_range(UNROLL):
                bits = tl.load(members + tile * n + row + u)
                value = values[u].to(tl.float64)
                added = ()
                for one in tl.static_range(SETS):
                    total = sums[one]
                    if (bits >> one) & 1:
                        total = total + value
                    added = added + (total,)
                sums = added
        for one in tl.static_range(SETS):
            which = tile * SETS + one
            if which < m:
                mean = sums[one] / tl.load(divisors + which)
                result = out + tl.multiple_of(tl.load(results + which), ALIGNED)
                tl.store(result + column, mean.to(tl.float32), mask=inside)


@triton.jit
def mixed(
    x,
    stride,
    rows,
    middle,
    weights,
    out,
    out_stride,
    overflow,
    n,
    m,
    d,
    SETS: tl.constexpr,
    UNROLL: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Weighted sums of what rows differ by from row `middle` of x, added to that row, in WIDTH columns.

    `rows` are n row numbers of x, n a multiple of UNROLL; `weights` (m / SETS rounded up, n, SETS); m rows of `out` are
    written. `overflow` becomes 1 when a result is not finite.
    """
    column = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    inside = column < d
    origin = tl.load(x + tl.load(middle) * stride + column, mask=inside, other=0.0)
    nothing = tl.zeros([WIDTH], dtype=tl.float32)
    for tile in range(0, tl.cdiv(m, SETS)):
        sums = ()
        for _ in tl.static_range(SETS):
            sums = sums + (tl.zeros([WIDTH], dtype=tl.float32),)
        for row in range(0, n, UNROLL):
            differences = ()
            for u in tl.static_range(UNROLL):
                at = tl.load(rows + row + u) * stride
                differences = differences + (tl.load(x + at + column, mask=inside, other=0.0) - origin,)
            for u in tl.static_range(UNROLL):
                added = ()
                for one in tl.static_range(SETS):
                    weight = tl.load(weights + (tile * n + row + u) * SETS + one)
                    added = added + (sums[one] + weight * differences[u],)
                sums = added
        for one in tl.static_range(SETS):
            which = tile * SETS + one
            if which < m:
                result = sums[one] + origin
                nothing += result * 0.0  # NaN, if it is not finite
                tl.store(out + which.to(tl.int64) * out_stride + column, result, mask=inside)
    tl.store(overflow + tl.zeros([WIDTH], dtype=tl.int32), 1, mask=nothing != 0.0)


@triton.jit
def _compared(values, low: tl.constexpr, high: tl.constexpr):
    smaller = tl.minimum(values[low], values[high])
    larger = tl.maximum(values[low], values[high])
    return values[:low] + (smaller,) + values[low + 1 : high] + (larger,) + values[high + 1 :]


@triton.jit
def mean_of_ranks(
    x,
    stride,
    rows,
    out,
    overflow,
    d,
    N: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    NETWORK: tl.constexpr,
    COMPARISONS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """The mean of the values of rank FIRST, ..., LAST - 1 of every coordinate, by a network of comparisons.

    `rows` are N row numbers of x; NETWORK has `low, high` of each comparison, one after another; `overflow` becomes 1
    when a number is not finite.
    """
    column = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    inside = column < d
    values = ()
    for i in tl.static_range(N):
        values = values + (tl.load(x + tl.load(rows + i) * stride + column, mask=inside, other=0.0),)
    nothing = tl.zeros([WIDTH], dtype=tl.float32)
    for i in tl.static_range(N):
        nothing += values[i] * 0.0  # NaN, if it is not finite
    tl.store(overflow + tl.zeros([WIDTH], dtype=tl.int32), 1, mask=nothing != 0.0)
    for k in tl.static_range(COMPARISONS):
        values = _compared(values, NETWORK[2 * k], NETWORK[2 * k + 1])
    total = tl.zeros([WIDTH], dtype=tl.float64)
    for rank in tl.static_range(FIRST, LAST):
        total += values[rank].to(tl.float64)
    tl.store(out + column, (total / (LAST - FIRST)).to(tl.float32), mask=inside)


@triton.jit
def means_of_rounds(x, sets, out, n, d, SETS: tl.constexpr, WIDTH: tl.constexpr):
    """The means of SETS sets of rows of each round's x, (rounds, n, d), in WIDTH columns, written to (rounds, SETS, d).

    `sets` is (rounds, SETS, n) uint8, 1 for the rows in a set, which are added up in their order.
    """
    round = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    inside = column < d
    sums = ()
    counts = ()
    for _ in tl.static_range(SETS):
        sums = sums + (tl.zeros([WIDTH], dtype=tl.float64),)
        counts = counts + (0,)
    for row in range(0, n):
        value = tl.load(x + (round * n + row) * d + column, mask=inside, other=0.0).to(tl.float64)
        added = ()
        counted = ()
        for one in tl.static_range(SETS):
            member = tl.load(sets + (round * SETS + one) * n + row).to(tl.int32)
            added = added + (sums[one] + tl.where(member != 0, value, 0.0),)
            counted = counted + (counts[one] + member,)
        sums = added
        counts = counted
    for one in tl.static_range(SETS):
        mean = sums[one] / counts[one].to(tl.float64)
        tl.store(out + (round * SETS + one) * d + column, mean.to(tl.float32), mask=inside)
