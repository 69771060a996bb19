"""A head that gives a heatmap for each point, trained by the Bernoulli loss."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools.models.codecs import DECODER, DECODERS, heatmap
from kptools.models.decoded import Decoded, Maps
from kptools.models.layers.map_conv import MapConv2d
from kptools.models.network import Criterion, Loss
from kptools.models.shape_prior import ShapePrior, ShapePriors
from kptools.runtime import send
from kptools.units import Pixels, Size

# The share of a map that a unit Gaussian fills, about: what the bias starts from, so that the
# first epochs are not spent on learning that most pixels are no keypoint.
PRIOR = 1e-3


class HeatmapHead(MapConv2d):
    """(B, channels, h, w) features to logits (B, K, upscale h, upscale w).

    The labels are Gaussians of `sigma` pixels of the map, and `pos_weight` multiplies their term.
    A `shape_prior` other than 0 is the `noise_scale` of the prior that it has.
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
        upscale: int = 1,
        shape_prior: float = 0.0,
    ) -> None:
        super().__init__(channels, count, size, stride=stride, upscale=upscale)
        assert self.bias is not None
        nn.init.constant_(self.bias, math.log(PRIOR / (1 - PRIOR)))
        self.sigma, self.pos_weight = sigma, pos_weight
        self.shape_prior: ShapePrior | ShapePriors | None = (
            ShapePrior(count, shape_prior) if shape_prior else None
        )

    def loss(self, output: Tensor, truth: g.Points, criterion: Criterion) -> Loss:
        """The mean over the pixels of the maps of annotated points."""
        on_map = torch.from_numpy(g.unit_to_map(truth, self.map_size()))
        points = send(on_map, output.device, torch.float32)
        loss: Loss = criterion(output, points, self.sigma, self.pos_weight)
        return loss

    def decode(
        self, output: Tensor, method: str | None = None, size: Size | None = None
    ) -> Decoded:
        logits = output.detach()
        points, scores = heatmap.decode(logits, method or DECODER, self.sigma)
        on_map = self.map_size(size)
        return Decoded(g.map_to_unit(points, on_map), scores, Maps(logits, on_map, self.sigma))

    def decode_in_graph(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `decode` by `softargmax`."""
        points, scores = heatmap.softargmax_in_graph(output)
        return (points + 0.5) / points.new_tensor(self.map_size()), scores

    def start(self, mean: Tensor, spread: Tensor) -> None:
        """Maps have no mean shape to start from."""


def build(
    channels: int,
    count: int,
    size: Size,
    stride: int,
    upscale: int,
    *,
    sigma: Pixels,
    pos_weight: float,
    shape_prior: float,
) -> HeatmapHead:
    """The head of a network of parts."""
    return HeatmapHead(
        channels,
        count,
        size,
        stride=stride,
        sigma=sigma,
        pos_weight=pos_weight,
        upscale=upscale,
        shape_prior=shape_prior,
    )
