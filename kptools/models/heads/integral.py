"""A head that gives each point as the mean place of its heatmap.

Integral regression (Sun et al., 2018), or soft-argmax: a softmax over the pixels makes a map a
distribution, whose mean is the point. It is differentiable, finer than the map's pixels, and its
spread says how sure the network is.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools.models.codecs import marginal
from kptools.models.heads import confidence
from kptools.models.layers.map_conv import MapConv2d
from kptools.models.network import Criterion, Decoded, Loss
from kptools.runtime import send
from kptools.units import Size


class IntegralHead(MapConv2d):
    """(B, channels, h, w) features to logits (B, K, upscale h, upscale w)."""

    decoders: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, channels: int, count: int, size: Size, *, stride: int, upscale: int = 1
    ) -> None:
        super().__init__(channels, count, size, stride=stride, upscale=upscale)
        assert self.bias is not None
        nn.init.normal_(self.weight, std=1e-3)  # flat maps, whose mean is the middle
        nn.init.zeros_(self.bias)

    def loss(self, output: Tensor, truth: g.Points, criterion: Criterion) -> Loss:
        """The mean over the annotated points."""
        on_map = torch.from_numpy(g.unit_to_map(truth, self.map_size()))
        loss: Loss = criterion(output, send(on_map, output.device, torch.float32))
        return loss

    def decode(
        self, output: Tensor, method: str | None = None, size: Size | None = None
    ) -> Decoded:
        columns, rows = marginal.marginals(output.detach())  # (B, K, w), (B, K, h)
        x, y = marginal.mean(columns), marginal.mean(rows)
        on_map = self.map_size(size)
        width, height = on_map
        across = marginal.variance(columns, x) / width**2
        down = marginal.variance(rows, y) / height**2
        scores = confidence.score((across + down).sqrt())
        points = torch.stack([x, y], dim=-1).cpu().numpy().astype(np.float64)
        return Decoded(g.map_to_unit(points, on_map), scores.cpu().numpy().astype(float))

    def start(self, mean: Tensor, spread: Tensor) -> None:
        """Maps have no mean shape to start from."""


def build(channels: int, count: int, size: Size, stride: int, upscale: int) -> IntegralHead:
    """The head of a network of parts."""
    return IntegralHead(channels, count, size, stride=stride, upscale=upscale)
