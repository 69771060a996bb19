"""A head that gives a heatmap for each point, trained by the Bernoulli loss."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools.models.codecs import DECODER, DECODERS, heatmap
from kptools.models.network import Criterion, Decoded, Loss, Maps
from kptools.runtime import send
from kptools.units import Pixels, Size

# The share of a map that a unit Gaussian fills, about: what the bias starts from, so that the
# first epochs are not spent on learning that most pixels are no keypoint.
PRIOR = 1e-3


class HeatmapHead(nn.Conv2d):
    """(B, channels, h, w) features to logits (B, K, h, w).

    `size` is the network's input (W, H), `stride` how many of its pixels a map's pixel spans. The
    labels are Gaussians of `sigma` pixels of the map, and `pos_weight` multiplies their term.
    """

    decoders: ClassVar[tuple[str, ...]] = DECODERS

    def __init__(
        self,
        channels: int,
        count: int,
        size: Size,
        *,
        stride: int,
        sigma: Pixels,
        pos_weight: float,
    ) -> None:
        super().__init__(channels, count, 1)
        assert self.bias is not None
        nn.init.constant_(self.bias, math.log(PRIOR / (1 - PRIOR)))
        self.map_size = (size[0] / stride, size[1] / stride)
        self.sigma, self.pos_weight = sigma, pos_weight

    def loss(self, output: Tensor, truth: g.Points, criterion: Criterion) -> Loss:
        """The mean over the pixels of the maps of annotated points."""
        on_map = torch.from_numpy(g.unit_to_map(truth, self.map_size))
        points = send(on_map, output.device, torch.float32)
        loss: Loss = criterion(output, points, self.sigma, self.pos_weight)
        return loss

    def decode(self, output: Tensor, method: str | None = None) -> Decoded:
        logits = output.detach()
        points, scores = heatmap.decode(logits, method or DECODER, self.sigma)
        maps = Maps(logits, self.map_size, self.sigma)
        return Decoded(g.map_to_unit(points, self.map_size), scores, maps)

    def start(self, mean: Tensor, spread: Tensor) -> None:
        """Maps have no mean shape to start from."""


def build(
    channels: int, count: int, size: Size, stride: int, *, sigma: Pixels, pos_weight: float
) -> HeatmapHead:
    """The head of a network of parts."""
    return HeatmapHead(channels, count, size, stride=stride, sigma=sigma, pos_weight=pos_weight)
