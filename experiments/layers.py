"""Layers with the weights of R models at once, whose backward pass leaves one gradient for each worker.

The images of all workers of a run stand one behind the other, those of all runs likewise: x is (R * m, ...), and each
run has weights of its own. A worker's gradient of a weight is a product of what went into the layer with what came back
to it, over that worker's images alone: the passes themselves need not know of workers.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

_COLUMN_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""What the columns of some workers' images may take at once: about what the caches of a CPU hold."""


class Layer(Protocol):
    """A layer with weights, as three functions.

    The weight is (R, ...), the bias (R, outputs) or None; of a worker's gradients, `weight` is (R, n, ...) and `bias`
    (R, n, outputs).
    """

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The outputs, (R * m, ...)."""
        ...

    def input_gradient(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient at the inputs x, from that at the outputs, g."""
        ...

    def worker_gradients(self, g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """Write the gradient of each worker's part of x and g into `weight` and `bias`."""
        ...


class Linear:
    """`torch.nn.Linear` on (R * m, ..., inputs)."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The outputs, (R * m, ..., outputs)."""
        rows = x.reshape(len(weight), -1, x.shape[-1])
        y = (
            rows @ weight.transpose(1, 2)
            if bias is None
            else torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2))
        )
        return y.reshape(*x.shape[:-1], -1)

    def input_gradient(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient at x."""
        return (g.reshape(len(weight), -1, g.shape[-1]) @ weight).reshape(x.shape)

    def worker_gradients(self, g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """Write each worker's gradient."""
        workers = weight.shape[0] * weight.shape[1]
        back, into = (one.reshape(workers, -1, one.shape[-1]) for one in (g, x))
        weight.copy_(torch.bmm(back.transpose(1, 2), into).view(weight.shape))
        if bias is not None:
            bias.copy_(back.sum(dim=1).view(bias.shape))


@dataclass(frozen=True)
class Convolution:
    """`torch.nn.Conv2d` without dilation or groups, on (R * m, channels, height, width).

    Attributes:
        products: whether all is done by batched products over columns, one for all runs: for a GPU, where torch's
            convolutions of each run would be launched one after another.
    """

    stride: tuple[int, int]
    padding: tuple[int, int]
    products: bool

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The outputs, laid out channels last."""
        if not self.products:
            parts = [
                functional.conv2d(part, weight[r], None if bias is None else bias[r], self.stride, self.padding)
                for r, part in enumerate(x.chunk(len(weight)))
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        return _correlate(padded(x, self.padding), weight, bias, self.stride)

    def input_gradient(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient at x."""
        if not self.products:
            parts = [
                _conv2d_input(back, into, weight[r], self.stride, self.padding)
                for r, (back, into) in enumerate(zip(g.chunk(len(weight)), x.chunk(len(weight)), strict=True))
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        # What each place of g brings back to each place that the kernel saw, added up.
        runs, outputs, inputs, *kernel = weight.shape
        rows = g.permute(0, 2, 3, 1).reshape(runs, -1, outputs)
        back = torch.bmm(rows, weight.permute(0, 1, 3, 4, 2).reshape(runs, outputs, -1))
        back = back.view(len(g), *g.shape[2:], *kernel, inputs)
        height, width = (size + 2 * border for size, border in zip(x.shape[2:], self.padding, strict=True))
        padded = g.new_zeros(len(g), height, width, inputs)
        down, right = (step * (size - 1) + 1 for step, size in zip(self.stride, g.shape[2:], strict=True))
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                padded[:, i : i + down : self.stride[0], j : j + right : self.stride[1]].add_(back[:, :, :, i, j])
        inside = (slice(border, border + size) for border, size in zip(self.padding, x.shape[2:], strict=True))
        return padded[:, *inside].permute(0, 3, 1, 2)

    def worker_gradients(self, g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """Write each worker's gradient, for so many workers at once as columns fit into cache."""
        workers = weight.shape[0] * weight.shape[1]
        outputs, inputs, *kernel = weight.shape[2:]
        columns = _columns(padded(x, self.padding), kernel, self.stride)
        columns = columns.view(workers, -1, *columns.shape[1:])
        back = g.permute(0, 2, 3, 1).reshape(workers, -1, outputs)
        targets = weight.flatten(0, 1)
        size = columns[0].numel()
        at_once = max(1, _COLUMN_BYTES[x.device.type] // (4 * size))
        for first in range(0, workers, at_once):
            some = slice(first, first + at_once)
            block = columns[some].reshape(-1, back.shape[1], inputs * kernel[0] * kernel[1])
            found = torch.bmm(back[some].transpose(1, 2), block)
            targets[some].copy_(found.view(-1, outputs, *kernel, inputs).permute(0, 1, 4, 2, 3))
        if bias is not None:
            bias.copy_(back.sum(dim=1).view(bias.shape))


def layer_of(module: nn.Module, *, products: bool) -> Layer | None:
    """The layer that computes what a module does; None where there is none."""
    if type(module) is nn.Linear:
        return Linear()
    if (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ):
        stride, padding = module.stride, module.padding
        return Convolution((stride[0], stride[1]), (padding[0], padding[1]), products)
    return None


def apply(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None, into: tuple[Tensor, Tensor | None]) -> Tensor:
    """A layer's outputs; the backward pass writes each worker's gradients `into` the weight's and the bias's place."""
    # The weight needs no gradient of torch's, but without any that is asked for there would be no backward pass.
    outputs: Tensor = _Applied.apply(x, weight.requires_grad_(), bias, layer, into)  # type: ignore[no-untyped-call]
    return outputs


def pools_by_two(module: nn.Module) -> bool:
    """Whether it makes one of each two by two places, and leaves out what is left at the border."""
    return (
        type(module) is nn.MaxPool2d
        and all(one in (2, (2, 2)) for one in (module.kernel_size, module.stride))
        and module.padding in (0, (0, 0))
        and module.dilation in (1, (1, 1))
        and not module.ceil_mode
        and not module.return_indices
    )


def max_pool(module: nn.MaxPool2d, x: Tensor) -> Tensor:
    """What the module makes of x, without gradients; pooling by two as the larger of halves: on a CPU in a fifth."""
    if x.is_cuda or not pools_by_two(module):
        pooled: Tensor = module(x)
        return pooled
    height, width = (size // 2 * 2 for size in x.shape[-2:])
    rows = torch.maximum(x[..., 0:height:2, :width], x[..., 1:height:2, :width])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class _Applied(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer, into: tuple[Tensor, Tensor | None]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.into = layer, into
        return layer.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (g,) = gradients
        x, weight = ctx.saved_tensors
        ctx.layer.worker_gradients(g, x, *ctx.into)
        back = ctx.layer.input_gradient(g, x, weight) if ctx.needs_input_grad[0] else None
        return back, None, None, None, None


def _conv2d_input(g: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    # Not torch.nn.grad.conv2d_input: that forgets how x is laid out.
    back: Tensor = torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (True, False, False)
    )[0]
    return back


def padded(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """x with zeros around each image, laid out channels last."""
    if padding != (0, 0):
        x = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    return x.contiguous(memory_format=torch.channels_last)


def _columns(x: Tensor, kernel: list[int] | torch.Size, stride: tuple[int, int]) -> Tensor:
    """What each place of a kernel sees of the images, (N, height, width, kh, kw * channels): a view, nothing is copied.

    Not `unfold`, which launches one operation an image on a GPU. A kernel's row is one stretch of memory.
    """
    images = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    n, height, width, channels = images.shape
    rows, places = ((size - k) // step + 1 for size, k, step in zip((height, width), kernel, stride, strict=True))
    # Not the tensor's own strides, which say nothing where a dimension has size 1.
    line = width * channels
    return images.as_strided(
        (n, rows, places, kernel[0], kernel[1] * channels),
        (height * line, stride[0] * line, stride[1] * channels, line, 1),
    )


def _correlate(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
    """The convolution of each run's images, (R * m, inputs, ...), with its weight, (R, outputs, inputs, kh, kw)."""
    runs, outputs = weight.shape[:2]
    columns = _columns(x, weight.shape[-2:], stride)
    flat = weight.permute(0, 3, 4, 2, 1).reshape(runs, -1, outputs)
    rows = columns.reshape(runs, -1, flat.shape[1])
    y = torch.bmm(rows, flat) if bias is None else torch.baddbmm(bias[:, None], rows, flat)
    return y.view(len(x), *columns.shape[1:3], outputs).permute(0, 3, 1, 2)
