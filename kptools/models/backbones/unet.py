"""The U-Net (Ronneberger et al., 2015) with batch normalisation, for heatmaps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kptools.models.heads.heatmap import HeatmapHead
from kptools.models.network import Network
from kptools.units import Pixels, Size

DEPTH = 4  # times that the input is halved


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(Network):
    """(B, 3, H, W) to (B, K, H / stride, W / stride) logits, rounded up.

    `width` is the number of channels of the first block; each of the 4 below has twice as many.
    With a `stride` of 2 or 4 the last steps up are left out. Inside, the input is padded at its
    right and bottom to a multiple of 16; the maps are cut back.
    """

    head: HeatmapHead

    def __init__(
        self,
        count: int,
        size: Size,
        *,
        width: int = 64,
        stride: int = 1,
        sigma: Pixels = 1.0,
        pos_weight: float = 1.0,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if stride not in (1, 2, 4, 8):
            raise ValueError(f"a stride of {stride} is not 1, 2, 4 or 8")
        self.stride = stride
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
        self.head = HeatmapHead(
            widths[levels[-1]], count, size, stride=stride, sigma=sigma, pos_weight=pos_weight
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple = 1 << DEPTH
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple))
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))
        maps: Tensor = self.head(x)
        return maps[..., : -(-height // self.stride), : -(-width // self.stride)]


def build(
    name: str,
    count: int,
    size: Size,
    weights: str = "none",
    *,
    width: int,
    stride: int,
    sigma: Pixels,
    pos_weight: float,
) -> UNet:
    return UNet(count, size, width=width, stride=stride, sigma=sigma, pos_weight=pos_weight)
