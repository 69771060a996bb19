"""A head that gives the points of a network of parts: linear layers, which look once more at each
point to say how far it is off.

Linear layers know a face as a whole, and so which faces are hard. What lies about the place where a
point was put says whether it is right. B: batch, K: points.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kptools import runtime
from kptools.models.heads.points import HIDDEN, LIMIT, PointsHead
from kptools.models.necks.cells import CellFeatures, Cells

UNITS = 64  # of the layer that looks at a point
ASIDE = 0.06  # how far from a point it looks too, on four sides; fractions of the input
PLACES = ((0.0, 0.0), (-ASIDE, 0.0), (ASIDE, 0.0), (0.0, -ASIDE), (0.0, ASIDE))


class LocalPointsHead(PointsHead):
    """CellFeatures to (B, K, 3), as PointsHead gives it of their cells. To its log of the distance
    is added, at most LIMIT either way, what a layer of UNITS with ReLU makes of the features of all
    maps at PLACES about a point. The layer is one for all points, and has an embedding of each.

    `channels` are the C_i of the maps (B, C_i, H_i, W_i). Neither points nor features learn from
    it. At first it adds nothing.
    """

    local_weight: nn.Parameter  # (UNITS, what is seen of a point)
    local_embedding: nn.Parameter  # (K, UNITS)
    local_output: nn.Parameter  # (K, UNITS)

    def __init__(self, channels: Sequence[int], hidden: tuple[int, ...], count: int) -> None:
        super().__init__(Cells.CELLS * channels[-1], hidden, count, relu=False)
        for name, tensor in new_weights(len(PLACES) * sum(channels), count).items():
            setattr(self, name, nn.Parameter(tensor))

    def forward(self, x: CellFeatures) -> Tensor:  # type: ignore[override]
        points, distance = self.points_and_distance(x.cells)
        with runtime.without_autocast(points):
            places = points.detach().unsqueeze(2) + points.new_tensor(PLACES)  # (B, K, PLACES, 2)
            seen = torch.cat([_sampled(some.detach().float(), places) for some in x.maps], dim=2)
            seen = F.layer_norm(seen, seen.shape[-1:])
            units = F.relu(F.linear(seen, self.local_weight) + self.local_embedding)
            more = (units * self.local_output).sum(dim=-1)  # (B, K)
            distance = distance + LIMIT * torch.tanh(more / LIMIT)
            return torch.cat([points, distance.unsqueeze(-1)], dim=-1)


def new_weights(
    seen: int, count: int, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """What the head has more than PointsHead, for `count` points of each of which it sees so many
    numbers, as it is at first."""
    return {
        "local_weight": torch.randn(UNITS, seen, generator=generator) * seen**-0.5,
        "local_embedding": torch.randn(count, UNITS, generator=generator) * 0.1,
        "local_output": torch.zeros(count, UNITS),
    }


def _sampled(features: Tensor, places: Tensor) -> Tensor:
    """Features (B, C, h, w) at places (B, K, P, 2) in fractions of the input, between its pixels by
    bilinear interpolation: (B, K, P * C). Beyond the map's edge they are those of the edge."""
    height, width = features.shape[2:]
    # MPS knows no padding_mode="border" before torch 2.11
    last = places.new_tensor([1 - 1 / width, 1 - 1 / height])
    grid = torch.minimum(torch.maximum(2 * places - 1, -last), last)
    return F.grid_sample(features, grid, align_corners=False).permute(0, 2, 3, 1).flatten(2)


def build(channels: Sequence[int], count: int) -> LocalPointsHead:
    """The head of a network of parts."""
    return LocalPointsHead(channels, (HIDDEN,), count)
