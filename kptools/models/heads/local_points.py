"""A head that gives the points of a network of parts: linear layers, and steps that look at the
features about each point.

Linear layers know a face as a whole: which way it looks, how wide it smiles. What lies about the
place where they put a point says which way it is off, as in the cascades of Dollár et al. (2010)
and Xia et al. (2022), and how far. B: batch, K: points, P: places about a point.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kptools import runtime
from kptools.models.heads.points import HIDDEN, LIMIT, PointsHead
from kptools.models.layers.sampling import sample
from kptools.models.necks.cells import CellFeatures, Cells

UNITS = 64  # of a layer that looks at a point
ASIDE = 0.06  # how far from a point it looks too, on four sides; fractions of the input
PLACES = ((0.0, 0.0), (-ASIDE, 0.0), (ASIDE, 0.0), (0.0, -ASIDE), (0.0, ASIDE))
STEPS = 3
NARROWER = 0.7  # each step looks so much closer than the one before
REACH = 0.05  # about as far as a step moves a point, fractions of the input


class LocalPointsHead(PointsHead):
    """CellFeatures to (B, K, 3 + 2 STEPS): points (B, K, 2) in fractions of the input, the log of
    the distance by which each is expected to be off, and the points before each of the steps.

    The first points are PointsHead's, of the cells. In a step a layer of UNITS with ReLU sees the
    features of all maps at PLACES about each point. A mixing over the points lets each know what
    the others saw, and a last layer moves the point. All steps share their weights. All points
    share the first layer; each has an embedding and a last layer of its own. The loss is the mean
    over the first points and those of all steps.

    To the log of the distance another such layer adds what it makes of the features about the first
    points, at most LIMIT either way. From this layer nothing goes back to points and features.

    `channels` are the C_i of the maps (B, C_i, H_i, W_i). At first all of this adds nothing.
    """

    local_weight: nn.Parameter  # (UNITS, what is seen of a point)
    local_embedding: nn.Parameter  # (K, UNITS)
    local_output: nn.Parameter  # (K, UNITS)
    step_weight: nn.Parameter  # (UNITS, what is seen of a point)
    step_embedding: nn.Parameter  # (K, UNITS)
    step_mixing: nn.Parameter  # (K, K)
    step_output: nn.Parameter  # (K, 2, UNITS)

    def __init__(self, channels: Sequence[int], hidden: tuple[int, ...], count: int) -> None:
        super().__init__(Cells.CELLS * channels[-1], hidden, count, relu=False)
        for name, tensor in new_weights(len(PLACES) * sum(channels), count).items():
            setattr(self, name, nn.Parameter(tensor))

    def forward(self, x: CellFeatures) -> Tensor:  # type: ignore[override]
        points, distance = self.points_and_distance(x.cells)  # (B, K, 2), (B, K)
        with runtime.without_autocast(points):
            maps = [some.float() for some in x.maps]
            seen = _seen(maps, points, 1.0)
            distance = distance + self._more_distance(seen.detach())
            before = []
            for step in range(STEPS):
                if step:
                    seen = _seen(maps, points, NARROWER**step)
                before.append(points)
                points = points.detach() + self._move(seen)
            return torch.cat([points, distance.unsqueeze(-1), *before], dim=-1)

    def _more_distance(self, seen: Tensor) -> Tensor:
        """What is added to the log of the distance, (B, K), by what is seen of each point,
        (B, K, N)."""
        units = F.relu(F.linear(seen, self.local_weight) + self.local_embedding)
        more = (units * self.local_output).sum(dim=-1)
        return LIMIT * torch.tanh(more / LIMIT)

    def _move(self, seen: Tensor) -> Tensor:
        """By how much each point moves, (B, K, 2) in fractions of the input, by what is seen of
        all, (B, K, N)."""
        units = F.relu(F.linear(seen, self.step_weight) + self.step_embedding)  # (B, K, UNITS)
        units = units + torch.matmul(self.step_mixing, units)
        return REACH * (units.unsqueeze(-2) * self.step_output).sum(dim=-1)

    def estimates(self, output: Tensor) -> Tensor:
        """(B, STEPS + 1, K, 2): those before each step, and after the last."""
        before = output[..., 3:].reshape(*output.shape[:2], STEPS, 2).transpose(1, 2)
        return torch.cat([before, super().estimates(output)], dim=1)


def new_weights(
    seen: int, count: int, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """What the head has more than PointsHead, for `count` points of each of which it sees so many
    numbers, as it is at first."""

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    return {
        "local_weight": normal(UNITS, seen, scale=seen**-0.5),
        "local_embedding": normal(count, UNITS, scale=0.1),
        "local_output": torch.zeros(count, UNITS),
        "step_weight": normal(UNITS, seen, scale=seen**-0.5),
        "step_embedding": normal(count, UNITS, scale=0.1),
        "step_mixing": torch.zeros(count, count),
        "step_output": torch.zeros(count, 2, UNITS),
    }


def _seen(maps: Sequence[Tensor], points: Tensor, scale: float) -> Tensor:
    """The features of all maps at PLACES, `scale` times as far aside, about points (B, K, 2):
    (B, K, N), of mean 0 and deviation 1 for each point. No gradient goes to the points."""
    places = points.unsqueeze(2) + scale * points.new_tensor(PLACES)  # (B, K, P, 2)
    seen = torch.cat([sample(some, places).flatten(2) for some in maps], dim=2)
    return F.layer_norm(seen, seen.shape[-1:])


def build(channels: Sequence[int], count: int) -> LocalPointsHead:
    """The head of a network of parts."""
    return LocalPointsHead(channels, (HIDDEN,), count)
