"""A light top-down pyramid: the finest features, with what the coarser ones know.

As in Feature Pyramid Networks (Lin et al., 2017), but for one output, the finest.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kptools.models.layers.block import convolution


class Pyramid(nn.Module):
    """Features of a backbone, (B, C_i, H_i, W_i) from fine to coarse, to (B, width, H_0, W_0).

    `channels` are the C_i. From the coarsest on, each level is brought to `width` channels, what
    comes from above is laid over it, each pixel over the 2 x 2 that it spans, and the sum is
    smoothed by 3 x 3. The pixels of all levels begin where the picture does, or with `from_end` end
    where it ends: where a side is odd, the last, or the first, of the finer ones is alone.
    """

    def __init__(self, channels: Sequence[int], width: int, *, from_end: bool = False) -> None:
        super().__init__()
        self.from_end = from_end
        self.lateral = nn.ModuleList(_projection(inputs, width) for inputs in channels)
        self.smooth = nn.ModuleList(convolution(width, width, 3) for _ in channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        coarsest = len(features) - 1
        x: Tensor = self.smooth[coarsest](self.lateral[coarsest](features[coarsest]))
        for level in range(coarsest - 1, -1, -1):
            here = self.lateral[level](features[level])  # (B, width, H_i, W_i)
            x = self.smooth[level](here + self._finer(x, *here.shape[-2:]))
        return x

    def _finer(self, x: Tensor, height: int, width: int) -> Tensor:
        """(B, C, H, W) to (B, C, height, width), twice as large or by one less or more."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        aside, below = max(width - x.shape[3], 0), max(height - x.shape[2], 0)
        if aside or below:  # of a backbone that rounds down
            lacking = (aside, 0, below, 0) if self.from_end else (0, aside, 0, below)
            x = F.pad(x, lacking, mode="replicate")
        return x[..., -height:, -width:] if self.from_end else x[..., :height, :width]


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
