"""A head that gives each point as the mean place of its heatmap.

Integral regression (Sun et al., 2018), or soft-argmax: a softmax over the pixels makes a map a
distribution, whose mean is the point. It is differentiable, and finer than the map's pixels.

How far a point is expected to be off grows with the spread of its map. By how much is another
matter for each point: a map along the jaw is as wide as it is, and the annotators differ by more.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools.models.codecs import marginal
from kptools.models.decoded import Decoded
from kptools.models.heads import confidence
from kptools.models.layers.map_conv import MapConv2d
from kptools.models.network import Criterion, Loss
from kptools.runtime import send
from kptools.units import Size

LEAST = 1e-3  # of a standard deviation, whose log is to be finite; fractions of the input


class IntegralHead(MapConv2d):
    """(B, channels, h, w) features to logits (B, K, upscale h, upscale w).

    The log of the distance by which a point is expected to be off, in fractions of the input, is
    `slope` times the log of its map's standard deviation, plus `offset`. Both are learnt, a number
    for each point, and no gradient goes back from them to the map: the points are what they would
    be without them.
    """

    decoders: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, channels: int, count: int, size: Size, *, stride: int, upscale: int = 1
    ) -> None:
        super().__init__(channels, count, size, stride=stride, upscale=upscale)
        assert self.bias is not None
        nn.init.normal_(self.weight, std=1e-3)  # flat maps, whose mean is the middle
        nn.init.zeros_(self.bias)
        self.slope = nn.Parameter(torch.ones(count))
        self.offset = nn.Parameter(torch.zeros(count))

    def loss(self, output: Tensor, truth: g.Points, criterion: Criterion) -> Loss:
        """The mean over the annotated points."""
        size = self.map_size()
        on_map = torch.from_numpy(g.unit_to_map(truth, size))
        target = send(on_map, output.device, torch.float32)
        loss: Loss = criterion(output, target)
        points, spread = self._points(output, size)
        known = target.isfinite().all(dim=-1)
        off = (torch.nan_to_num(points - target) / target.new_tensor(size)).norm(dim=-1)
        mean = confidence.with_likelihood(loss.mean, off, self._log_distance(spread), known)
        return Loss(mean, loss.count)

    def decode(
        self, output: Tensor, method: str | None = None, size: Size | None = None
    ) -> Decoded:
        on_map = self.map_size(size)
        points, spread = self._points(output, on_map)
        scores = confidence.score(self._log_distance(spread).detach().exp())
        unit = g.map_to_unit(points.cpu().numpy().astype(np.float64), on_map)
        return Decoded(unit, scores.cpu().numpy().astype(np.float64))

    def decode_in_graph(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `decode`."""
        size = self.map_size()
        points, spread = self._points(output, size)
        unit = (points + 0.5) / points.new_tensor(size)
        return unit, confidence.score(self._log_distance(spread).exp())

    @torch.no_grad()
    def _points(self, output: Tensor, size: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """The points (B, K, 2) of logits, in pixels of the maps, and the standard deviations of the
        maps (B, K), in fractions of the input, which is `size` (W, H) in those pixels."""
        width, height = size
        columns, rows = marginal.marginals(output)  # (B, K, w), (B, K, h)
        x, y = marginal.mean(columns), marginal.mean(rows)
        across = marginal.variance(columns, x) / width**2
        down = marginal.variance(rows, y) / height**2
        return torch.stack([x, y], dim=-1), (across + down).sqrt()

    def _log_distance(self, spread: Tensor) -> Tensor:
        return self.slope * spread.clamp(min=LEAST).log() + self.offset

    def start(self, mean: Tensor, spread: Tensor) -> None:
        """Maps have no mean shape to start from."""


def build(channels: int, count: int, size: Size, stride: int, upscale: int) -> IntegralHead:
    """The head of a network of parts."""
    return IntegralHead(channels, count, size, stride=stride, upscale=upscale)
