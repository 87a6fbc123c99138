"""A convolution, pooling by two, and ReLU in one kernel, in Triton, which comes with builds of torch for CUDA.

A pass without gradients need not keep what lies between them, nor columns of what the convolution sees: of either, a
GPU writes and reads back more than the images themselves and the result.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_PLACES = 32  # of the pooled result, in a program
_DEPTH = 32  # of a product


@triton.jit
def _larger(a, b):
    """NaN, if either is."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def _pooled_convolution(
    x,
    weight,
    bias,
    y,
    images,
    height,
    width,
    rows,
    columns,
    channels,
    stride_y,
    stride_x,
    outputs,
    SPAN: tl.constexpr,
    TERMS: tl.constexpr,
    PLACES: tl.constexpr,
    OUTPUTS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Some places of the result of one run's images, (images, rows, columns, outputs), by some of the outputs.

    Each place is the largest of four products of TERMS terms: of kernel rows of SPAN numbers, the places of a row and
    their channels, which stand one behind the other in an image of (height, width, channels).
    """
    run = tl.program_id(1).to(tl.int64)
    four = tl.arange(0, PLACES * 4)
    place = tl.program_id(0) * PLACES + four // 4
    image = place // (rows * columns)
    row = place // columns % rows * 2 + four % 4 // 2
    column = place % columns * 2 + four % 2
    line = width * channels
    start = x + (run * images + image) * (height * line) + row * stride_y * line + column * stride_x * channels
    known = place < images * rows * columns
    output = tl.program_id(2) * OUTPUTS + tl.arange(0, OUTPUTS)
    used = output < outputs
    of_output = weight + (run * outputs + output) * TERMS
    product = tl.zeros([PLACES * 4, OUTPUTS], dtype=tl.float32)
    for first in range(0, TERMS, DEPTH):
        term = first + tl.arange(0, DEPTH)
        if SPAN % DEPTH == 0:  # one row of the kernel
            seen = first // SPAN * line + tl.multiple_of(first % SPAN, DEPTH) + tl.arange(0, DEPTH)
            a = tl.load(start[:, None] + seen[None, :], mask=known[:, None], other=0.0)
            b = tl.load(of_output[None, :] + term[:, None], mask=used[None, :], other=0.0)
        else:
            seen = term // SPAN * line + term % SPAN
            a = tl.load(start[:, None] + seen[None, :], mask=known[:, None] & (term < TERMS)[None, :], other=0.0)
            b = tl.load(of_output[None, :] + term[:, None], mask=used[None, :] & (term < TERMS)[:, None], other=0.0)
        product = tl.dot(a, b, product, input_precision="tf32")
    largest = tl.reduce(tl.reshape(product, (PLACES, 4, OUTPUTS)), 1, _larger)
    largest += tl.load(bias + run * outputs + output, mask=used, other=0.0)[None, :]
    largest = tl.where(largest < 0, 0.0, largest)
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    to = y + (run * images * rows * columns + place)[:, None] * outputs + output[None, :]
    tl.store(to, largest, mask=(place < images * rows * columns)[:, None] & used[None, :])


def pooled_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
    """`relu(max_pool2d(conv2d(x, weight, bias, stride), 2))` with the weights of R runs.

    Products are of TF32: of each number 10 bits of its 23 count.

    Args:
        x: the images, (R * m, channels, height, width) float32, laid out channels last, padded.
        weight: (R, outputs, channels, kh, kw).
        bias: (R, outputs), or None.

    Returns:
        (R * m, outputs, rows, columns), laid out channels last.
    """
    runs, outputs, channels, kh, kw = weight.shape
    images = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    _, height, width, _ = images.shape
    rows, columns = (((size - k) // s + 1) // 2 for size, k, s in zip((height, width), (kh, kw), stride, strict=True))
    each = len(x) // runs
    y = x.new_empty(len(x), rows, columns, outputs)
    by_output = min(64, max(16, triton.next_power_of_2(outputs)))
    if y.numel():
        grid = (triton.cdiv(each * rows * columns, _PLACES), runs, triton.cdiv(outputs, by_output))
        _pooled_convolution[grid](
            images,
            weight.permute(0, 1, 3, 4, 2).contiguous(),
            weight.new_zeros(runs, outputs) if bias is None else bias.contiguous(),
            y,
            *(each, height, width, rows, columns, channels, *stride, outputs),
            SPAN=kw * channels,
            TERMS=kh * kw * channels,
            PLACES=_PLACES,
            OUTPUTS=by_output,
            DEPTH=_DEPTH,
        )
    return y.permute(0, 3, 1, 2)
