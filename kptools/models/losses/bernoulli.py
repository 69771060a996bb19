"""The Bernoulli loss of heatmaps, without heatmaps.

The label of a point is a Gaussian of peak 1 about it, not truncated: y = exp(-d^2 / 2 sigma^2).
B: batch, K: points, H, W: height and width of the maps.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kptools.models.network import Loss
from kptools.units import Pixels

# How many numbers of the maps the loss treats at once: on a CPU they stay in the cache
_CHUNK = {"cpu": 1 << 17}
_CHUNK_ELSEWHERE = 1 << 24


class _BernoulliLoss(torch.autograd.Function):
    """The loss and its gradient in one pass over the logits, a few maps at a time, so that
    nothing but the gradient is ever as large as they are.

    A label is separable, y = gy gx^T, and the loss of a map with logits z is
    sum(softplus(z)) + (w - 1) gy^T softplus(z) gx - w gy^T z gx; its gradient is
    sigmoid(z) (1 + (w - 1) y) - w y.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        points: Tensor,
        known: Tensor,
        share: Tensor,
        sigma: float,
        weight: float,
        keep: bool,
    ) -> Tensor:
        height, width = z.shape[2:]
        x, y = torch.nan_to_num(points.float()).unbind(dim=-1)
        gx = _gaussian(x, width, sigma) * known.unsqueeze(-1)  # (B, K, W)
        gy = _gaussian(y, height, sigma)  # (B, K, H)
        # laid out as the logits are: a convolution's own layout is not to be converted back
        gradient = torch.empty_like(z) if keep else None
        total = torch.zeros((), device=z.device)
        for faces, rows in _parts(z):
            column, row = gy[faces, :, rows].unsqueeze(-1), gx[faces].unsqueeze(-1)
            here = known[faces]
            zf = z[faces, :, rows].float().contiguous()  # (b, K, h, W)
            soft = F.softplus(zf)
            at_labels = torch.matmul(torch.matmul(zf, row).mT, column).sum()
            total += (soft.sum(dim=(2, 3)) * here).sum() - weight * at_labels
            if weight != 1:
                total += (weight - 1) * torch.matmul(torch.matmul(soft, row).mT, column).sum()
            if gradient is not None:
                label = torch.matmul(column, row.mT)
                slope = torch.sigmoid(zf, out=soft)
                if weight != 1:
                    slope.addcmul_(slope, label, value=weight - 1)
                slope.sub_(label, alpha=weight)
                slope.mul_(here[..., None, None] * share)
                gradient[faces, :, rows] = slope
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(upstream), *[None] * 6


def _parts(z: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices (of B, of H) of the maps that are treated at once: whole faces, or rows of one. In
    either layout of the logits these lie together in memory."""
    batch, count, height, width = z.shape
    room = _CHUNK.get(z.device.type, _CHUNK_ELSEWHERE) // (count * width)  # rows
    faces, rows = max(1, room // height), min(height, max(1, room))
    for face in range(0, batch, faces):
        for row in range(0, height, rows):
            yield slice(face, face + faces), slice(row, row + rows)


def _gaussian(centres: Tensor, length: int, sigma: float) -> Tensor:
    at = torch.arange(length, device=centres.device, dtype=torch.float32)
    return torch.exp(-0.5 * ((at - centres.unsqueeze(-1)) / sigma).square())


def loss(z: Tensor, points: Tensor, sigma: Pixels = 1.0, pos_weight: float = 1.0) -> Loss:
    """The per-pixel Bernoulli loss of logits `z` (B, K, H, W) against Gaussians of `sigma` about
    `points` (B, K, 2), both in pixels of the map, NaN: left out. `pos_weight` multiplies the term
    of the label. The mean, float32, over the pixels of the maps of annotated points."""
    keep = torch.is_grad_enabled() and z.requires_grad
    known = points.isfinite().all(dim=-1).float()  # (B, K)
    count = z.shape[2] * z.shape[3] * known.sum().clamp(min=1)
    mean: Tensor = _BernoulliLoss.apply(
        z, points, known, 1.0 / count, float(sigma), float(pos_weight), keep
    )
    return Loss(mean, count)
