"""Convolutions that clip what they give (ReLU6), for prediction on a CPU.

oneDNN clips numbers that it still holds, where a layer of its own reads and writes all features
once more: 7 % of the time of EfficientNet-Lite0. torch.compile does this too, but takes minutes for
a network; so here is the operation that it uses, and where that is not available the layers stay.
With ReLU nothing is gained, for torch's own is quicker.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from kptools.models.layers.folding import is_hooked, is_plain_convolution, is_sequence


class ConvReLU6(nn.Module):
    """A convolution and ReLU6, (B, C, H, W) to what they give, without gradients. It computes in
    the dtype of the convolution's weights."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(conv.weight.dtype),
            conv.weight,
            conv.bias,
            conv.padding,
            conv.stride,
            conv.dilation,
            conv.groups,
            "hardtanh",
            [0.0, 6.0],
            "",
        )
        return y


def fuse_relu6(network: nn.Module) -> None:
    """Let the convolutions of a network on a CPU, in place, apply the ReLU6 that comes right after
    them in an nn.Sequential, which then is nn.Identity: the same numbers but for rounding."""
    for module in list(network.modules()):
        if not is_sequence(module):
            continue
        parts = [(n, p) for n, p in module._modules.items() if type(p) is not nn.Identity]
        for (name, conv), (after, activation) in pairwise(parts):
            is_clipped = type(activation) is nn.ReLU6 and not is_hooked(activation)
            if is_clipped and is_plain_convolution(conv) and _is_possible(conv):
                setattr(module, name, ConvReLU6(conv))
                setattr(module, after, nn.Identity())


def _is_possible(conv: nn.Conv2d) -> bool:
    """Whether this torch can do it on this CPU, in the dtype of the weights: it is tried."""
    if conv.padding_mode != "zeros":
        return False
    try:
        with torch.inference_mode():
            ConvReLU6(conv)(torch.zeros(1, conv.in_channels, *conv.kernel_size))
    except (AttributeError, TypeError, RuntimeError):
        return False
    return True
