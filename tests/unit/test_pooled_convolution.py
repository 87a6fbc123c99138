"""The kernel beside torch: on a GPU where there is one, else in Triton's interpreter."""

import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read by Triton when it is imported
pytest.importorskip("triton", reason="Triton is not installed: it comes with torch for CUDA")

from ostrakon.experiments.pooled_convolution import pooled_convolution

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def of_torch(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
    parts = x.double().chunk(len(weight))
    made = [
        functional.conv2d(part, weight[r].double(), None if bias is None else bias[r].double(), stride)
        for r, part in enumerate(parts)
    ]
    return functional.max_pool2d(torch.cat(made), 2).relu()


@pytest.mark.parametrize(
    ("channels", "size", "outputs", "kernel", "stride", "biased"),
    [
        (1, (12, 11), 20, (5, 5), (1, 1), True),  # a row of the kernel is no whole number of products deep
        (32, (6, 6), 16, (3, 3), (1, 1), True),  # it is
        (3, (9, 8), 70, (3, 2), (1, 2), False),  # more outputs than a program has
    ],
)
def test_it_convolves_pools_and_cuts_off_as_torch_does(
    channels: int, size: tuple[int, int], outputs: int, kernel: tuple[int, int], stride: tuple[int, int], biased: bool
) -> None:
    runs, images = 2, 3
    rng = torch.Generator().manual_seed(channels)
    x = torch.randn(runs * images, channels, *size, generator=rng).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(runs, outputs, channels, *kernel, generator=rng)
    bias = torch.randn(runs, outputs, generator=rng) if biased else None
    for broken in (False, True):
        if broken:  # a candidate with NaN has to lose
            weight[0, 1, 0, 0, 0], weight[1, 2, 0, 0, 0] = torch.nan, torch.inf
        there = [None if one is None else one.to(DEVICE) for one in (x, weight, bias)]
        found = pooled_convolution(*there, stride).cpu().double()
        torch.testing.assert_close(found, of_torch(x, weight, bias, stride), rtol=1e-2, atol=2e-2, equal_nan=True)
