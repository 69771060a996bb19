"""A head that gives points of a network of parts: linear layers, which look once more at each point
to say how far it is off.

Linear layers know a face as a whole, and so which faces are hard. What lies about the place where a
point was put says whether it is right. B: batch, K: points, M: maps of features.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kptools.models.heads.points import HIDDEN, LIMIT, PointsHead
from kptools.models.necks.cells import CellFeatures, Cells
from kptools.units import Size

UNITS = 64  # of the layer that looks at a point
ASIDE = 0.06  # how far from a point it looks too, on four sides; fractions of the input
PLACES = ((0.0, 0.0), (-ASIDE, 0.0), (ASIDE, 0.0), (0.0, -ASIDE), (0.0, ASIDE))


class LocalPointsHead(PointsHead):
    """CellFeatures to (B, K, 3), as PointsHead gives it of their cells. To its log of the distance
    is added what a layer of UNITS with ReLU, one for all points but for its bias, makes of the
    features of all maps at PLACES about each point.

    `channels` are the M numbers C_i of the maps (B, C_i, H_i, W_i). Neither points nor features
    learn from it. At first it adds nothing.
    """

    def __init__(self, channels: Sequence[int], hidden: tuple[int, ...], count: int) -> None:
        super().__init__(Cells.CELLS * channels[-1], hidden, count, relu=False)
        seen = len(PLACES) * sum(channels)
        self.local_weight = nn.Parameter(torch.empty(UNITS, seen))
        self.local_bias = nn.Parameter(torch.empty(count, UNITS))
        self.local_output = nn.Parameter(torch.zeros(count, UNITS))
        nn.init.normal_(self.local_weight, std=seen**-0.5)
        nn.init.normal_(self.local_bias, std=0.1)

    def forward(self, x: CellFeatures) -> Tensor:  # type: ignore[override]
        output = super().forward(x.cells)
        device = "cpu" if output.is_meta else output.device.type
        with torch.autocast(device, enabled=False):
            points = output[..., :2].detach()
            seen = torch.cat([_about(points, some.detach().float()) for some in x.maps], dim=-1)
            seen = F.layer_norm(seen, seen.shape[-1:])
            units = F.relu(F.linear(seen, self.local_weight) + self.local_bias)  # (B, K, UNITS)
            more = (units * self.local_output).sum(dim=-1)
            distance = output[..., 2] + LIMIT * torch.tanh(more / LIMIT)
            return torch.cat([output[..., :2], distance.unsqueeze(-1)], dim=-1)


def _about(points: Tensor, features: Tensor) -> Tensor:
    """Features (B, C, h, w) about points (B, K, 2), fractions of the input: (B, K, PLACES * C).
    Outside the map they are those of its edge."""
    places = points.unsqueeze(2) + points.new_tensor(PLACES)  # (B, K, PLACES, 2)
    seen = F.grid_sample(features, 2 * places - 1, padding_mode="border", align_corners=False)
    return seen.permute(0, 2, 3, 1).flatten(2)


def build(
    channels: Sequence[int], count: int, size: Size, stride: int, upscale: int
) -> LocalPointsHead:
    """The head of a network of parts; `size`, `stride` and `upscale` have no part in it."""
    return LocalPointsHead(channels, (HIDDEN,), count)
