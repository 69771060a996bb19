"""Convolutions that clip what they give (ReLU6), for prediction on a CPU.

oneDNN clips each number before it is written, where a layer of its own reads and writes all
features once more: 7 to 9 % of the forward pass of EfficientNet-Lite0 on x86. torch.compile does
this too, but takes minutes for a network; so here is the operation that it uses, and where that is
not available the layers stay. With ReLU nothing is gained, for torch's own is quicker.
"""

from functools import cache
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
    them in an nn.Sequential, which then is nn.Identity: the same numbers but for rounding. One
    whose weights are not finite stays, for oneDNN makes 0 of NaN, and the prediction is to fail."""
    for module in list(network.modules()):
        if not is_sequence(module):
            continue
        parts = [(n, p) for n, p in module._modules.items() if not _is_nothing(p)]
        for (name, conv), (after, activation) in pairwise(parts):
            is_clipped = type(activation) is nn.ReLU6 and not is_hooked(activation)
            if is_clipped and is_plain_convolution(conv) and _is_fusible(conv):
                setattr(module, name, ConvReLU6(conv))
                setattr(module, after, nn.Identity())


def _is_nothing(module: nn.Module | None) -> bool:
    return type(module) is nn.Identity and not is_hooked(module)


def _is_fusible(conv: nn.Conv2d) -> bool:
    is_finite = all(bool(torch.isfinite(p).all()) for p in conv.parameters())
    is_padded_plainly = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return is_finite and is_padded_plainly and can_clip(conv.weight.dtype)


@cache
def can_clip(dtype: torch.dtype) -> bool:
    """Whether this torch has the operation in this dtype, on an x86 CPU: it is tried."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False  # not measured
    try:
        with torch.inference_mode():
            ConvReLU6(nn.Conv2d(1, 1, 1, dtype=dtype))(torch.zeros(1, 1, 1, 1))
    except (AttributeError, RuntimeError):
        return False
    return True
