"""Heatmaps: encode, decode, and the Bernoulli loss that needs no labels.

The label of a point is a Gaussian of peak 1 about it, not truncated: y = exp(-d^2 / 2 sigma^2),
d and sigma in pixels of the map. Points are in the map frame (the centre of its top-left pixel is
(0, 0)). B: batch, K: points, H, W: height and width of the maps.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from kptools.config import DECODER
from kptools.units import Pixels, Size

Maps: TypeAlias = NDArray[np.floating[Any]]  # (K, H, W) logits

# How many numbers of the maps the loss treats at once: on a CPU they stay in the cache
_CHUNK = {"cpu": 1 << 18}
_CHUNK_ELSEWHERE = 1 << 24


def encode(points: NDArray[np.float64], size: Size, sigma: Pixels = 1.0) -> NDArray[np.float32]:
    """Labels (K, H, W) in 0..1 of points (K, 2); a map of zeros where a point is NaN. `size` is
    (W, H)."""
    gx = _profile(points[:, 0], size[0], sigma)
    gy = _profile(points[:, 1], size[1], sigma)
    return (gy[:, :, None] * gx[:, None, :]).astype(np.float32)


def _profile(centres: NDArray[np.float64], length: int, sigma: Pixels) -> NDArray[np.float64]:
    d = (np.arange(length) - centres[:, None]) / sigma
    return np.nan_to_num(np.exp(-0.5 * d * d))


class _BernoulliLoss(torch.autograd.Function):
    """The loss and its gradient in one pass over the logits, a few maps at a time, so that
    nothing but the gradient is ever as large as they are.

    A label is separable, y = gy gx^T, and the loss of a map with logits z is
    sum(softplus(z)) + (w - 1) gy^T softplus(z) gx - w gy^T z gx; its gradient is
    sigmoid(z) (1 + (w - 1) y) - w y.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, points: Tensor, sigma: float, weight: float, keep: bool
    ) -> Tensor:
        batch, count, height, width = z.shape
        known = points.isfinite().all(dim=-1).flatten()  # (B K,)
        share = 1.0 / (height * width * known.sum().clamp(min=1).float())
        x, y = torch.nan_to_num(points.float()).flatten(0, 1).unbind(dim=-1)
        known_f = known.float().unsqueeze(1)
        gx = _gaussian(x, width, sigma) * known_f  # (B K, W)
        gy = _gaussian(y, height, sigma)  # (B K, H)
        maps = z.flatten(0, 1)
        gradient = torch.empty_like(maps, memory_format=torch.contiguous_format) if keep else None
        total = torch.zeros((), device=z.device)
        step = max(1, _CHUNK.get(z.device.type, _CHUNK_ELSEWHERE) // (height * width))
        for first in range(0, batch * count, step):
            part = slice(first, first + step)
            zf = maps[part].float()
            column, row = gy[part].unsqueeze(2), gx[part].unsqueeze(2)  # (n, H, 1), (n, W, 1)
            soft = F.softplus(zf)
            at_labels = torch.matmul(torch.matmul(zf, row).mT, column).sum()
            total += (soft.sum(dim=(1, 2)) * known_f[part, 0]).sum() - weight * at_labels
            if weight != 1:
                total += (weight - 1) * torch.matmul(torch.matmul(soft, row).mT, column).sum()
            if gradient is not None:
                label = torch.matmul(column, row.mT)
                slope = torch.sigmoid(zf, out=soft)
                if weight != 1:
                    slope.addcmul_(slope, label, value=weight - 1)
                slope.sub_(label, alpha=weight)
                slope.mul_(known_f[part].unsqueeze(2) * share)
                gradient[part] = slope
        if gradient is not None:
            ctx.save_for_backward(gradient.view(z.shape))
        return total * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(upstream), None, None, None, None


def _gaussian(centres: Tensor, length: int, sigma: float) -> Tensor:
    at = torch.arange(length, device=centres.device, dtype=torch.float32)
    return torch.exp(-0.5 * ((at - centres.unsqueeze(1)) / sigma).square())


def bernoulli_loss(z: Tensor, points: Tensor, sigma: Pixels = 1.0, weight: float = 1.0) -> Tensor:
    """The per-pixel Bernoulli loss of logits `z` (B, K, H, W) against Gaussians about `points`
    (B, K, 2; NaN: left out), without making the labels. `weight` multiplies the term of the
    label. The mean over the pixels of the maps of annotated points, float32.
    """
    keep = torch.is_grad_enabled() and z.requires_grad
    loss: Tensor = _BernoulliLoss.apply(z, points, float(sigma), float(weight), keep)
    return loss


def decode(z: Maps, method: str = DECODER) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (K, 2) in the map frame and scores (K,), the peak's probability, of logits (K, H, W).

    - `argmax`: the centre of the largest pixel.
    - `quarter`: a quarter of a pixel on, towards the larger neighbour (Newell et al., 2016).
    - `dark`: one Newton step on the log of the map (Zhang et al., 2020); the log of a Gaussian
      is a parabola, so that it is exact for one.
    - `softargmax`: the mean of the probabilities around the peak, a 7 x 7 window.
    """
    count, height, width = z.shape
    z = z.astype(np.float32, copy=False)
    flat = z.reshape(count, -1).argmax(axis=1)
    y, x = np.divmod(flat, width)
    k = np.arange(count)
    scores = _sigmoid(z[k, y, x].astype(np.float64))
    points = np.stack([x, y], axis=1).astype(np.float64)
    if method == "quarter":
        for axis, at, length in ((0, x, width), (1, y, height)):
            inner = (at > 0) & (at < length - 1)
            ahead, behind = (np.clip(at + s, 0, length - 1) for s in (1, -1))
            a, b = ((z[k, y, n] if axis == 0 else z[k, n, x]) for n in (ahead, behind))
            points[:, axis] += 0.25 * np.sign(a - b) * inner
    elif method in ("dark", "softargmax"):
        window = _windows(z, x, y, 1 if method == "dark" else 3)
        points += _newton(window) if method == "dark" else _mean(window)
    elif method != "argmax":
        raise ValueError(f"no decoder {method!r}")
    return points, scores


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * z))
    return result


def _windows(z: Maps, x: NDArray[Any], y: NDArray[Any], radius: int) -> NDArray[np.float64]:
    """Log-probabilities (K, 2r+1, 2r+1) around each peak; NaN where the map, or its mirror image
    about the peak, has ended."""
    reach = np.arange(-radius, radius + 1)
    rows, columns = y[:, None] + reach, x[:, None] + reach
    inside = ((rows >= 0) & (rows < z.shape[1]))[:, :, None] & (
        (columns >= 0) & (columns < z.shape[2])
    )[:, None, :]
    inside &= inside[:, ::-1, ::-1]  # as far on either side, or the mean would lean inward
    rows, columns = rows.clip(0, z.shape[1] - 1), columns.clip(0, z.shape[2] - 1)
    values = z[np.arange(len(z))[:, None, None], rows[:, :, None], columns[:, None, :]]
    logp = -np.logaddexp(0, -values.astype(np.float64))
    return np.where(inside, logp, np.nan)


def _newton(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step (K, 2) to the top of the parabola through 3 x 3 windows, at most a pixel along
    each axis; none at the map's edge or where the window has no top."""
    dx, dy = (w[:, 1, 2] - w[:, 1, 0]) / 2, (w[:, 2, 1] - w[:, 0, 1]) / 2
    dxx = w[:, 1, 2] - 2 * w[:, 1, 1] + w[:, 1, 0]
    dyy = w[:, 2, 1] - 2 * w[:, 1, 1] + w[:, 0, 1]
    dxy = (w[:, 2, 2] - w[:, 2, 0] - w[:, 0, 2] + w[:, 0, 0]) / 4
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = dxx * dyy - dxy * dxy
        step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1) / determinant[:, None]
        top = (determinant > 0) & (dxx < 0) & np.isfinite(step).all(axis=1)
    return np.where(top[:, None], step.clip(-1, 1), 0.0)


def _mean(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean place (K, 2), from the centre, of the probabilities of the windows."""
    p = np.nan_to_num(np.exp(w))
    p = np.maximum(p, np.finfo(np.float64).tiny)
    reach = np.arange(w.shape[1]) - w.shape[1] // 2
    total = p.sum(axis=(1, 2))
    return np.stack(
        [(p.sum(axis=1) * reach).sum(axis=1) / total, (p.sum(axis=2) * reach).sum(axis=1) / total],
        axis=1,
    )
