"""The loss of points that are the mean places of heatmaps.

Of the coordinates the mean absolute error (Sun et al., 2018), in pixels of the map; and of the
marginals, the map's sums along each axis, the cross-entropy with a Gaussian about the point. The
first asks for the right mean alone, which a map can have in many ways, and learns slowly; the
second says which map. B: batch, K: points, H, W: height and width of the maps.
"""

import torch
from torch import Tensor

from kptools.models.codecs import marginal
from kptools.models.network import Loss
from kptools.units import Pixels

SIGMA: Pixels = 1.0  # of the Gaussians
WEIGHT = 1.0  # of the cross-entropy


def loss(z: Tensor, points: Tensor) -> Loss:
    """Of logits `z` (B, K, H, W) against `points` (B, K, 2) in pixels of the map, NaN: left out.
    The mean, float32, over the annotated points. One outside the map has no part in the
    cross-entropy."""
    known = points.isfinite().all(dim=-1)  # (B, K)
    size = torch.tensor([z.shape[3], z.shape[2]], device=z.device, dtype=torch.float32)
    inside = known & ((points > -0.5) & (points < size - 0.5)).all(dim=-1)
    points = torch.nan_to_num(points)
    total = torch.zeros((), device=z.device)
    for p, at in zip(marginal.marginals(z), points.unbind(dim=-1), strict=True):
        total = total + ((marginal.mean(p) - at).abs() * known).sum()
        label = marginal.encode(at, p.shape[-1], SIGMA)
        cross_entropy = -(label * (p + 1e-9).log()).sum(dim=-1)
        total = total + WEIGHT * (cross_entropy * inside).sum()
    count = known.float().sum().clamp(min=1)
    return Loss(total / count, count)
