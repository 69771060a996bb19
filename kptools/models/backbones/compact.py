"""A small residual network for CPUs, to be trained from scratch: `tiny` and `small`.

Its blocks are of dense 3 x 3 convolutions (He et al., 2016). They take more operations than the
depthwise ones of networks for phones, and less time on a CPU, which does them several times faster.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kptools.models.layers.block import convolution

WIDTHS = {"tiny": 16, "small": 24}


class Compact(nn.Module):
    """(B, channels, H, W) to its features: (B, 2 width, H/4, W/4), (B, 4 width, H/8, W/8) and
    (B, 8 width, H/16, W/16), rounded up."""

    strides = (4, 8, 16)
    from_end = False

    def __init__(self, *, width: int, channels: int = 3) -> None:
        super().__init__()
        self.channels = (2 * width, 4 * width, 8 * width)
        self.stem = convolution(channels, width, 3, stride=2)
        self.stages = nn.ModuleList()
        inputs = width
        for outputs in self.channels:
            second = Residual(outputs, outputs)
            self.stages.append(nn.Sequential(Residual(inputs, outputs, stride=2), second))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Residual(nn.Module):
    """Two convolutions: (B, inputs, H, W) to (B, outputs, H/stride, W/stride), rounded up. Where
    that is the same shape, what they add to their input."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride=stride)
        self.second = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return F.relu(x + y if self.is_residual else y, inplace=True)


def features(name: str, weights: str = "none") -> Compact:
    """The backbone of `tiny` or `small`; there are no weights to start from."""
    return Compact(width=WIDTHS[name])
