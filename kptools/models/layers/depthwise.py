"""Depthwise convolutions with a backward pass that is quick on a CPU.

In bf16 oneDNN has no quick kernel for two of the gradients: that of the input where the stride is
2, and that of the weights where the kernel is larger than 3 x 3. Its reference code takes 3 to
40 times as long as the work needs (tests/benchmarks/depthwise.py). Here the first is a convolution
of the gradient with zeros in between, and the second is taken in tiles of 3 x 3.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

QUICKER = {torch.bfloat16}  # the numbers in which this is quicker than torch's own
TILE = 3  # side of the kernels whose weight gradient is quick


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d for as many groups as channels, (B, C, H, W) to (B, C, h, w): the same numbers."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
        if dtype not in QUICKER:
            return super().forward(x)
        x, weight = x.to(dtype), self.weight.to(dtype)
        stride, padding = self.stride[0], self.padding[0]
        assert isinstance(padding, int)
        out: Tensor = _Convolution.apply(x, weight, stride, padding)
        return out if self.bias is None else out + self.bias.to(out.dtype).view(1, -1, 1, 1)


def use_quick_depthwise(network: nn.Module) -> None:
    """Give the depthwise convolutions of a network the quick backward pass, in place. Its
    parameters and their names stay as they are."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_taken(module):
            module.__class__ = DepthwiseConv2d  # it adds a method, and no state


def _is_taken(conv: nn.Conv2d) -> bool:
    """Whether it is depthwise, and square and odd as nearly all are."""
    height, width = conv.kernel_size
    return (
        1 < conv.groups == conv.in_channels == conv.out_channels
        and height == width >= TILE
        and height % 2 == 1
        and conv.stride[0] == conv.stride[1]
        and isinstance(conv.padding, tuple)
        and conv.padding[0] == conv.padding[1] < height
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        upstream = upstream.contiguous(memory_format=torch.channels_last)
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            of_input = _input_gradient(upstream, x, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(upstream, x, weight, ctx.stride, ctx.padding)
        return of_input, of_weight, None, None


def _input_gradient(g: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """(B, C, H, W) as `x`, of the output's gradient `g` (B, C, h, w): the convolution with the
    kernel turned by 180 degrees, of `g` with stride - 1 zeros between its numbers."""
    batch, channels, height, width = x.shape
    side = weight.shape[2]
    if stride > 1:
        rows, columns = (n + 2 * padding - side + 1 for n in (height, width))
        spread = g.new_zeros(batch, rows, columns, channels).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = g
        g = spread
    return F.conv2d(g, weight.flip(2, 3), None, 1, side - 1 - padding, 1, channels)


def _weight_gradient(g: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """(C, 1, k, k) as `weight`: tile by tile, of which neighbours share a row or a column."""
    side = weight.shape[2]
    if side == TILE:
        return _direct(g, x, weight, stride, padding)
    padded = F.pad(x, (padding,) * 4) if padding else x
    reach = [(n - 1) * stride + TILE for n in g.shape[2:]]
    tile = weight[:, :, :TILE, :TILE].contiguous()
    gradient = torch.empty_like(weight)
    for row in range(0, side - 1, TILE - 1):
        for column in range(0, side - 1, TILE - 1):
            part = padded[:, :, row : row + reach[0], column : column + reach[1]]
            part = part.contiguous(memory_format=torch.channels_last)
            gradient[:, :, row : row + TILE, column : column + TILE] = _direct(
                g, part, tile, stride, 0
            )
    return gradient


def _direct(g: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """torch's own gradient of the weights."""
    gradient: Tensor = torch.ops.aten.convolution_backward(
        g,
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        x.shape[1],
        [False, True, False],
    )[1]
    return gradient
