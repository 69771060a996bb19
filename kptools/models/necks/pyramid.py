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
    comes from above is laid over it, at its size, and the sum is smoothed by 3 x 3.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
            for inputs in channels
        )
        self.smooth = nn.ModuleList(convolution(width, width, 3) for _ in channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        levels = zip(features, self.lateral, self.smooth, strict=True)
        x: Tensor | None = None
        for feature, lateral, smooth in reversed(list(levels)):
            here = lateral(feature)  # (B, width, H_i, W_i)
            if x is not None:
                here = here + F.interpolate(x, size=here.shape[-2:], mode="nearest")
            x = smooth(here)
        assert x is not None
        return x
