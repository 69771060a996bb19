"""Heatmaps: from points to labels, and from maps to points.

The label of a point is a Gaussian of peak 1 about it, not truncated: y = exp(-d^2 / 2 sigma^2),
d and sigma in pixels of the map. Points are in the map frame (the centre of its top-left pixel is
(0, 0)). B: batch, K: points, H, W: height and width of the maps.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from kptools.models.codecs import DECODER, DECODERS
from kptools.units import Pixels, Size

MAX_STD: Pixels = 14.0  # of a point of which a map says nothing
_REACH = 3  # of the window of `softargmax`, pixels on each side of the peak
_BLOCK = 8  # rows of a map among which a peak is first looked for

_Radius: TypeAlias = Callable[[int], int]
_Refine: TypeAlias = Callable[[NDArray[np.float64], Pixels, int], NDArray[np.float64]]
Logits: TypeAlias = NDArray[np.floating[Any]]  # (K, H, W) logits


def encode(points: NDArray[np.float64], size: Size, sigma: Pixels = 1.0) -> NDArray[np.float32]:
    """Labels (K, H, W) in 0..1 of points (K, 2); a map of zeros where a point is NaN. `size` is
    (W, H)."""
    gx = _profile(points[:, 0], size[0], sigma)
    gy = _profile(points[:, 1], size[1], sigma)
    return (gy[:, :, None] * gx[:, None, :]).astype(np.float32)


def _profile(centres: NDArray[np.float64], length: int, sigma: Pixels) -> NDArray[np.float64]:
    d = (np.arange(length) - centres[:, None]) / sigma
    return np.nan_to_num(np.exp(-0.5 * d * d))


def decode(
    z: Tensor, method: str = DECODER, sigma: Pixels = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (B, K, 2) in the map frame and scores (B, K), the peak's probability, of logits
    (B, K, H, W) on any device; both NaN where a map holds NaN or its peak is infinite. ValueError
    for a method that is not one of these:

    - `argmax`: the centre of the largest pixel.
    - `quarter`: a quarter of a pixel on, towards the larger neighbour (Newell et al., 2016).
    - `dark`: the map is smoothed by a Gaussian of `sigma`, that of the labels which the network was
      trained on, and one Newton step goes to the top of its log (Zhang et al., 2020); the log of a
      Gaussian is a parabola, so that it is exact for one. Within 3 sigma of the map's edge there is
      no smoothing.
    - `softargmax`: the mean of the probabilities around the peak, a 7 x 7 window.
    """
    if method not in DECODERS:
        raise ValueError(f"no decoder {method!r}; there are {', '.join(DECODERS)}")
    peaks, columns, rows = _peaks(z)
    top = peaks.float().cpu().numpy().astype(np.float64)
    points = np.stack([columns.cpu().numpy(), rows.cpu().numpy()], axis=-1).astype(np.float64)
    smooth = math.ceil(3 * sigma)  # where its Gaussian is cut off
    if 3 + 2 * smooth > min(z.shape[2:]):
        smooth = 0  # it would nowhere lie within the map
    radius, refine = _REFINEMENTS[method]
    windows = _windows(z, points.astype(np.int64), radius(smooth))
    scores = _sigmoid(top)
    points += refine(windows, sigma, smooth)
    lost = ~np.isfinite(top)
    points[lost], scores[lost] = np.nan, np.nan
    return points, scores


def _peaks(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest of the logits (B, K, H, W) of each map, NaN before all others, and its column and
    row: (B, K) each. Of several that are equal, the one furthest to the left, and of these the
    first."""
    if z.stride(1) != 1:
        peaks, columns = z.max(dim=2).values.max(dim=2)  # of (B, K, W)
        column = z.gather(3, columns[..., None, None].expand(-1, -1, z.shape[2], 1))
        return peaks, columns, column.squeeze(3).max(dim=2).indices
    # Channels last: a maximum without its index is several times quicker. The numbers of a column
    # lie far apart, and are slow to read: so first the maxima of blocks of rows, then one block
    last = z.permute(0, 2, 3, 1)
    batch, height, width, count = last.shape
    step = min(_BLOCK, height)
    whole = height // step * step
    blocks = last[:, :whole].reshape(batch, -1, step, width, count).amax(dim=2)
    if whole < height:  # the last block shares rows with the one before
        blocks = torch.cat([blocks, last[:, -step:].amax(dim=1, keepdim=True)], dim=1)
    peaks, columns = blocks.amax(dim=1).max(dim=1)  # of (B, W, K)
    at = columns[:, None, None].expand(-1, blocks.shape[1], 1, -1)
    block = blocks.gather(2, at).squeeze(2).max(dim=1).indices  # of (B, H / step, K)
    # by 32 bits, for arithmetic of 64 is slow on MPS
    first = (block.int() * step).clamp(max=height - step)
    reach = torch.arange(step, device=z.device, dtype=torch.int32)[:, None]
    flat = ((first[:, None] + reach) * width + columns.int()[:, None]).long()  # (B, step, K)
    within = last.reshape(batch, -1, count).gather(1, flat).max(dim=1).indices
    return peaks, columns, first + within.int()


def covariance(z: Tensor, points: NDArray[np.float64], sigma: Pixels) -> NDArray[np.float64]:
    """How unsure a network is of its points (B, K, 2), by the curvature of the logs of its maps,
    logits (B, K, H, W), at them: (B, K, 2, 2), pixels^2 of the map. A network that is unsure by a
    covariance C spreads its labels' Gaussian of `sigma` to one of C + sigma^2. A point of an
    outline is sure across it, and less so along it. At most MAX_STD^2 along any axis, as where a
    point is NaN or the map has no top."""
    last = np.array(z.shape[:1:-1]) - 1
    nearest = np.nan_to_num(points).round().astype(np.int64).clip(0, last)
    smooth = math.ceil(3 * sigma)
    if 3 + 2 * smooth > min(z.shape[2:]):
        smooth = 0
    windows = _windows(z, nearest, 1 + smooth)
    dxx, dyy, dxy = np.nan_to_num(_curvature(_smoothed(windows, sigma, smooth)))
    precision = -np.stack([np.stack([dxx, dxy], -1), np.stack([dxy, dyy], -1)], -2)
    values, axes = np.linalg.eigh(precision)
    is_smoothed = np.isfinite(windows).all(axis=(-2, -1)) & (smooth > 0)
    known = sigma**2 * np.where(is_smoothed, 2, 1)  # the labels' own, and the smoothing's
    spread = (1 / values.clip(MAX_STD**-2) - known[..., None]).clip(0)
    spread[np.isnan(points).any(axis=-1)] = MAX_STD**2
    return np.asarray((axes * spread[..., None, :]) @ axes.swapaxes(-1, -2))


def softargmax_in_graph(z: Tensor) -> tuple[Tensor, Tensor]:
    """As `decode` by `softargmax`: points (B, K, 2) in the map frame and scores (B, K), tensors of
    logits (B, K, H, W), by operations that a graph can hold."""
    height, width = z.shape[2:]
    flat = z.flatten(2)
    top, index = flat.max(dim=2)
    row, column = index // width, index % width
    reach = torch.arange(-_REACH, _REACH + 1, device=z.device)
    total, across, down = (torch.zeros_like(top) for _ in range(3))
    for dy in range(-_REACH, _REACH + 1):
        near = (row[..., None] + dy).clamp(0, height - 1)
        columns = (column[..., None] + reach).clamp(0, width - 1)
        logits = flat.gather(2, near * width + columns)
        p = (logsigmoid(logits) - logsigmoid(top)[..., None]).exp()  # relative: never all 0
        inside = (row + dy >= 0) & (row + dy < height) & (row - dy >= 0) & (row - dy < height)
        for sign in (1, -1):  # as far on either side, or the mean would lean inward
            there = column[..., None] + sign * reach
            p = p * ((there >= 0) & (there < width))
        p = p * inside[..., None]
        total = total + p.sum(dim=2)
        across = across + (p * reach).sum(dim=2)
        down = down + p.sum(dim=2) * dy
    points = torch.stack([column + across / total, row + down / total], dim=-1)
    return points, top.sigmoid()


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        result: NDArray[np.float64] = 1 / (1 + np.exp(-z))
    return result


def _log_sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = -np.logaddexp(0, -z)
    return result


def _windows(z: Tensor, peaks: NDArray[np.int64], radius: int) -> NDArray[np.float64]:
    """Logits (B, K, 2r+1, 2r+1) around each peak (B, K, 2); NaN where the map, or its mirror image
    about the peak, has ended: as far on either side, or a mean would lean inward."""
    batch, count, height, width = z.shape
    reach = np.arange(-radius, radius + 1)
    columns, rows = (peaks[..., axis, None] + reach for axis in (0, 1))  # (B, K, 2r+1)
    inside = ((rows >= 0) & (rows < height))[..., :, None]
    inside = inside & ((columns >= 0) & (columns < width))[..., None, :]
    inside &= inside[..., ::-1, ::-1]
    index = (
        rows.clip(0, height - 1)[..., :, None] * width + columns.clip(0, width - 1)[..., None, :]
    )
    flat = torch.from_numpy(index.reshape(batch, count, -1)).to(z.device)
    values = z.reshape(batch, count, -1).gather(2, flat).view(index.shape)
    return np.where(inside, values.float().cpu().numpy().astype(np.float64), np.nan)


def _uphill(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along x and y (..., 2) the sign of the larger neighbour, of 3 x 3 windows; 0 at the edge."""
    step = np.stack([w[..., 1, 2] - w[..., 1, 0], w[..., 2, 1] - w[..., 0, 1]], axis=-1)
    return np.nan_to_num(np.sign(step))


def _smoothed(w: NDArray[np.float64], sigma: Pixels, smooth: int) -> NDArray[np.float64]:
    """Of windows of logits (..., 3 + 2 * smooth, the same) the logs (..., 3, 3) of the middle of
    the smoothed probabilities. Where a window reaches beyond the map they are not smoothed: half a
    Gaussian over the edge would lean inward."""
    at = np.arange(-smooth, smooth + 1) / sigma
    taps = np.exp(-0.5 * at * at)
    matrix = np.stack([np.pad(taps, (i, 2 - i)) for i in range(3)])  # (3, 3 + 2 * smooth)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(matrix @ _sigmoid(w) @ matrix.T)
    middle = slice(smooth, smooth + 3)
    whole = np.isfinite(w).all(axis=(-2, -1), keepdims=True)
    return np.where(whole, logs, _log_sigmoid(w[..., middle, middle]))


def _curvature(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, ...): the second derivatives along x, along y and along both of 3 x 3 windows."""
    with np.errstate(invalid="ignore"):
        dxx = w[..., 1, 2] - 2 * w[..., 1, 1] + w[..., 1, 0]
        dyy = w[..., 2, 1] - 2 * w[..., 1, 1] + w[..., 0, 1]
        dxy = (w[..., 2, 2] - w[..., 2, 0] - w[..., 0, 2] + w[..., 0, 0]) / 4
    return np.stack([dxx, dyy, dxy])


def _newton(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step (..., 2) to the top of the parabola through 3 x 3 windows, at most a pixel along
    each axis; none at the map's edge or where the window has no top."""
    with np.errstate(divide="ignore", invalid="ignore"):
        dx, dy = (w[..., 1, 2] - w[..., 1, 0]) / 2, (w[..., 2, 1] - w[..., 0, 1]) / 2
        dxx, dyy, dxy = _curvature(w)
        determinant = dxx * dyy - dxy * dxy
        step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1)
        step /= determinant[..., None]
        top = (determinant > 0) & (dxx < 0) & np.isfinite(step).all(axis=-1)
    return np.where(top[..., None], step.clip(-1, 1), 0.0)


def _mean(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean place (..., 2), from the centre, of the probabilities of windows of logits."""
    p = np.nan_to_num(np.exp(_log_sigmoid(w)))
    p = np.maximum(p, np.finfo(np.float64).tiny)
    reach = np.arange(w.shape[-1]) - w.shape[-1] // 2
    total = p.sum(axis=(-2, -1))
    across, down = (p.sum(axis=-2) * reach).sum(axis=-1), (p.sum(axis=-1) * reach).sum(axis=-1)
    return np.stack([across / total, down / total], axis=-1)


# By decoder: how far its window reaches, where the smoothing reaches `smooth` pixels, and how far
# (..., 2) from the peak the point lies, by windows of logits, sigma and `smooth`
_REFINEMENTS: dict[str, tuple[_Radius, _Refine]] = {
    "argmax": (lambda smooth: 0, lambda w, sigma, smooth: np.zeros((*w.shape[:-2], 2))),
    "quarter": (lambda smooth: 1, lambda w, sigma, smooth: 0.25 * _uphill(w)),
    "dark": (
        lambda smooth: 1 + smooth,
        lambda w, sigma, smooth: _newton(_smoothed(w, sigma, smooth)),
    ),
    "softargmax": (lambda smooth: _REACH, lambda w, sigma, smooth: _mean(w)),
}
