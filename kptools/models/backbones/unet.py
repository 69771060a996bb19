"""The U-Net (Ronneberger et al., 2015) with batch normalisation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kptools.models.layers.block import convolution

DEPTH = 4  # times that the input is halved


class UNet(nn.Module):
    """(B, 3, H, W) to one map of features, (B, width * stride, H/stride, W/stride), rounded up.

    `width` is the number of channels of the first block; each of the 4 below has twice as many.
    With a `stride` of 2, 4 or 8 the last steps up are left out. Inside, the input is padded at its
    right and bottom to a multiple of 16; the features are cut back.
    """

    from_end = False

    def __init__(self, *, width: int = 64, stride: int = 1, channels: int = 3) -> None:
        super().__init__()
        if stride not in (1, 2, 4, 8):
            raise ValueError(f"a stride of {stride} is not 1, 2, 4 or 8")
        self.channels, self.strides = (width * stride,), (stride,)
        widths = [width << level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(
            _block(inputs, outputs)
            for inputs, outputs in zip([channels, *widths], widths, strict=False)
        )
        levels = range(DEPTH - 1, stride.bit_length() - 2, -1)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2) for level in levels
        )
        self.join = nn.ModuleList(_block(2 * widths[level], widths[level]) for level in levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[-2:]
        multiple = 1 << DEPTH
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple))
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)  # (B, width << level, H >> level, ...)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))
        (stride,) = self.strides
        return [x[..., : -(-height // stride), : -(-width // stride)]]


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*convolution(inputs, outputs, 3), *convolution(outputs, outputs, 3))


def features(name: str, weights: str = "none", *, width: int, stride: int) -> UNet:
    """The U-Net of this width and stride; there are no weights to start from."""
    return UNet(width=width, stride=stride)
