"""Marginals: a heatmap seen along x and along y, as probabilities.

The logits of a point, (H, W), go through one softmax over all pixels; its sums along y and along x
are the marginals. Positions are in pixels of the map (the centre of its top-left pixel is (0, 0)).
B: batch, K: points.
"""

import torch
from torch import Tensor

from kptools.units import Pixels


def marginals(z: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K, H, W) to the probabilities of each column (B, K, W) and of each row (B, K, H),
    float32."""
    p = z.float().flatten(2).softmax(dim=-1).view(z.shape)
    return p.sum(dim=2), p.sum(dim=3)


def mean(p: Tensor) -> Tensor:
    """The mean position (B, K) of probabilities (B, K, length)."""
    at = torch.arange(p.shape[-1], device=p.device, dtype=p.dtype)
    return p @ at


def variance(p: Tensor, mean: Tensor) -> Tensor:
    """The variance (B, K) of the position about its mean (B, K)."""
    at = torch.arange(p.shape[-1], device=p.device, dtype=p.dtype)
    return (p * (at - mean.unsqueeze(-1)).square()).sum(dim=-1)


def encode(positions: Tensor, length: int, sigma: Pixels) -> Tensor:
    """Labels (B, K, length) of positions (B, K): Gaussians of `sigma` pixels, of sum 1."""
    at = torch.arange(length, device=positions.device, dtype=positions.dtype)
    d = (at - positions.unsqueeze(-1)) / sigma
    return torch.softmax(-0.5 * d.square(), dim=-1)
