"""Which points are seen: a second output beside that of any head.

For each point the logit of the probability that it is seen. It is learnt by the binary
cross-entropy from the features that the head itself takes: of maps, from those about the point, as
its map weighs them, and from their mean over the face. The features learn from it, too, by a share
of what they learn from the points: without, they say little of what lies over a face. B: batch, K:
points.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kptools import geometry as g
from kptools import runtime
from kptools.models.decoded import Decoded
from kptools.models.layers.map_conv import MapConv2d
from kptools.models.necks.cells import CellFeatures
from kptools.models.network import Criterion, Head, Loss
from kptools.models.shape_prior import ShapePrior, ShapePriors
from kptools.runtime import send
from kptools.units import Size

SEEN = 0.9  # the probability at the start
SHARE = 0.2  # of the loss of the points, whatever its unit: the weight of the cross-entropy


class VisibleHead(nn.Module):
    """(B, C, h, w) or (B, C) features, or CellFeatures, to what the head `main` gives of them, and
    logits (B, K)."""

    def __init__(self, main: Head, inputs: int, count: int) -> None:
        super().__init__()
        self.main = main
        parts = 2 if isinstance(main, MapConv2d) else 1
        self.norm = nn.LayerNorm(inputs, elementwise_affine=False)
        self.weight = nn.Parameter(torch.zeros(count, parts * inputs))
        self.bias = nn.Parameter(torch.full((count,), math.log(SEEN / (1 - SEEN))))

    @property
    def decoders(self) -> tuple[str, ...]:
        return self.main.decoders

    @property
    def shape_prior(self) -> ShapePrior | ShapePriors | None:
        prior: ShapePrior | ShapePriors | None = getattr(self.main, "shape_prior", None)
        return prior

    def forward(self, x: Tensor | CellFeatures) -> tuple[Tensor, Tensor]:
        output: Tensor = self.main(x)  # type: ignore[operator]
        features = x.cells if isinstance(x, CellFeatures) else x
        with runtime.without_autocast(features):
            features = features.float()
            if features.ndim == 2:
                return output, F.linear(self.norm(features), self.weight, self.bias)
            about = self.norm(_about(features, output.detach().float()))  # (B, K, C)
            whole = self.norm(features.mean(dim=(2, 3)))  # (B, C)
            near, far = self.weight.chunk(2, dim=1)
            return output, (about * near).sum(dim=2) + F.linear(whole, far, self.bias)

    def loss(self, output: Any, truth: g.Points, criterion: Criterion) -> Loss:
        """As that of `main`, whose value it has, with the gradient of the cross-entropy. `truth`
        (B, K, 3): with 1 where a point is seen, 0 where it is hidden, NaN where neither is
        known."""
        found = self.main.loss(output[0], np.ascontiguousarray(truth[..., :2]), criterion)
        seen = send(torch.from_numpy(truth[..., 2].copy()), output[1].device, torch.float32)
        known = seen.isfinite()
        surprise = F.binary_cross_entropy_with_logits(
            output[1], seen.nan_to_num(), reduction="none"
        )
        mean = (surprise * known).sum() / known.float().sum().clamp(min=1)
        weight = SHARE * found.mean.detach()
        return Loss(found.mean + weight * (mean - mean.detach()), found.count)

    def decode(self, output: Any, method: str | None = None, size: Size | None = None) -> Decoded:
        found = self.main.decode(output[0], method, size)
        found.visible = output[1].detach().float().sigmoid().cpu().numpy().astype(np.float64)
        return found

    def decode_in_graph(self, output: Any) -> tuple[Tensor, Tensor]:
        """As that of `main`: a graph gives points and scores."""
        return self.main.decode_in_graph(output[0])

    def start(self, mean: Tensor, spread: Tensor) -> None:
        self.main.start(mean, spread)


def _about(features: Tensor, maps: Tensor) -> Tensor:
    """Features (B, C, h, w) about each point, (B, K, C): their mean under its map, of logits
    (B, K, n h, n w)."""
    side = maps.shape[2] // features.shape[2]
    share = maps.flatten(2).softmax(dim=2).view(maps.shape)
    if side > 1:
        share = F.avg_pool2d(share, side) * side**2
    return torch.matmul(share.flatten(2), features.flatten(2).mT)
