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
    comes from above is laid over it, at its size, and the sum is smoothed by 3 x 3. `from_end`: of
    an odd number of rows it is the first that has a pixel of the coarser level to itself, not the
    last; of columns likewise.
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
        """(B, C, H, W) to (B, C, height, width), twice as large or nearly so."""
        if self.from_end:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")[..., -height:, -width:]
        return F.interpolate(x, size=(height, width), mode="nearest")


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
