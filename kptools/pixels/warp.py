"""Resampling, colour, blur and noise of a batch of pictures, on their device."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kptools import geometry as g
from kptools.augment.transform import Transform
from kptools.pixels import prefilter
from kptools.runtime import send
from kptools.specs import FILL
from kptools.units import Pixels, Size

_NOISE_CHUNK = 1 << 22  # pixels of noise made at a time


def centred(pixels: Tensor) -> Tensor:
    """Levels (..., uint8) as float32, mid-grey at 0: for crops that are warped more than once."""
    return pixels.to(torch.float32).sub_(FILL)


def warp(pixels: Tensor, matrices: Sequence[g.Matrix], size: Size) -> Tensor:
    """Resample bilinearly, filtered where that shrinks: (B, Hs, Ws, C) uint8, or what `centred`
    makes of them, to (B, C, H, W) float32, mid-grey at 0 and 255 levels to 1. Each matrix maps the
    output's continuous coordinates to the source's."""
    given = pixels if pixels.is_floating_point() else centred(pixels)
    x = given.permute(0, 3, 1, 2)
    source, stacked = (pixels.shape[2], pixels.shape[1]), np.stack(matrices)
    corner = _cut_out(stacked, source, size)
    if corner is not None:
        left, top = corner
        return x[:, :, top : top + size[1], left : left + size[0]] / 255
    normalised = np.stack([_normalised(m, size, source) for m in matrices])
    theta = send(torch.from_numpy(normalised), pixels.device, torch.float32)
    return _sample(x, _grid(theta, size), stacked).div_(255)


def _cut_out(matrices: NDArray[np.float64], source: Size, size: Size) -> tuple[int, int] | None:
    """Where the output lies in the source, if it is a part of it, the same for all and by whole
    pixels; else None."""
    left, top = np.round(matrices[0, :, 2]).astype(int).tolist()
    if np.abs(matrices - g.translation(left, top)).max() > 1e-6:
        return None
    inside = 0 <= left <= source[0] - size[0] and 0 <= top <= source[1] - size[1]
    return (left, top) if inside else None


def _grid(theta: Tensor, size: Size) -> Tensor:
    """Where each pixel of the output looks, (B, H, W, 2): F.affine_grid's numbers, as the sum of a
    row and a column, several times sooner. `theta`: (B, 2, 3)."""
    across, down = (
        (2 * torch.arange(length, device=theta.device, dtype=theta.dtype) + 1) / length - 1
        for length in size
    )
    of_x, of_y, shift = theta[:, None, None].unbind(dim=-1)  # (B, 1, 1, 2) each
    return of_x * across[:, None] + (of_y * down[:, None, None] + shift)


def _sample(x: Tensor, grid: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """The images (B, C, Hs, Ws) at the places of a grid (B, H, W, 2), those of them smoothed first
    whose pixels the warp is to skip. `matrices`: (B, 2, 3), output to source."""
    sigmas = prefilter.deviations(matrices)
    shrunk = np.flatnonzero(sigmas.any(axis=1)).tolist()
    if len(shrunk) == len(x):
        return _bilinear(_blur(x, sigmas.tolist()), grid)
    sampled = _bilinear(x, grid)
    if shrunk:
        where = torch.tensor(shrunk, device=x.device)
        sampled[where] = _bilinear(_blur(x[where], sigmas[shrunk].tolist()), grid[where])
    return sampled


def _bilinear(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, "bilinear", "zeros", align_corners=False)


def _normalised(m: g.Matrix, output: Size, source: Size) -> g.Matrix:
    """The same map between coordinates that run from -1 to 1, as grid_sample has them."""
    half_out = g.compose(g.scaling(output[0] / 2, output[1] / 2), g.translation(1, 1))
    half_in = g.compose(g.translation(-1, -1), g.scaling(2 / source[0], 2 / source[1]))
    return g.compose(half_in, m, half_out)


def recolour(x: Tensor, transforms: Sequence[Transform], zooms: Sequence[g.Matrix]) -> Tensor:
    """Blur, colour, noise and erasure, as sampled. (B, C, H, W), mid-grey at 0, to the same.

    `zooms` map the file to these pixels (continuous); the axes are not turned.
    """
    if any(t.blur for t in transforms):
        x = _blur(
            x,
            [(t.blur * z[0, 0], t.blur * z[1, 1]) for t, z in zip(transforms, zooms, strict=True)],
        )
    if any(t.colour is not None for t in transforms):
        x = _colour(x, transforms)
    if any(t.noise for t in transforms):
        x = _add_noise(x, transforms)
    for image, transform, zoom in zip(x, transforms, zooms, strict=True):
        for box in transform.erased:
            x0, y0 = np.round(g.to_continuous(zoom, box[:2])).astype(int).clip(0).tolist()
            x1, y1 = np.round(g.to_continuous(zoom, box[2:])).astype(int).clip(0).tolist()
            image[:, y0:y1, x0:x1] = 0
    return x


def _colour(x: Tensor, transforms: Sequence[Transform]) -> Tensor:
    """One affine map of colour for each image; of a grey image the map's effect on grey."""
    identity = np.eye(3, 4)
    maps = np.stack([identity if t.colour is None else t.colour for t in transforms])
    if x.shape[1] == 1:
        grey = maps[:, :, :3].sum(axis=2).mean(axis=1)
        maps = np.stack([grey, maps[:, :, 3].mean(axis=1)], axis=1)[:, None, :]  # (B, 1, 2)
    affine = send(torch.from_numpy(maps), x.device, x.dtype)
    mixed = torch.baddbmm(affine[:, :, -1:], affine[:, :, :-1], x.flatten(2))
    return mixed.clamp_(-FILL / 255, 1 - FILL / 255).view_as(x)


def _blur(x: Tensor, sigmas: Sequence[tuple[Pixels, Pixels]]) -> Tensor:
    """Gaussian blur, each image with its own deviations (x, y), cut off at 3 of them."""
    batch, channels, height, width = x.shape
    # all images as the channels of one, which on a CPU are to lie together
    x = x.permute(2, 3, 0, 1).reshape(1, height, width, batch * channels).permute(0, 3, 1, 2)
    for axis, length in ((1, height), (0, width)):
        taps = prefilter.gaussians(np.array([s[axis] for s in sigmas]), length)
        radius = taps.shape[1] // 2
        if not radius:
            continue
        kernel = send(torch.from_numpy(taps), x.device, x.dtype).repeat_interleave(channels, 0)
        shape = (-1, 1, 1, 2 * radius + 1) if axis == 0 else (-1, 1, 2 * radius + 1, 1)
        edge = (radius, radius, 0, 0) if axis == 0 else (0, 0, radius, radius)
        x = F.pad(x, edge, mode="replicate")
        x = F.conv2d(x, kernel.view(shape), groups=batch * channels)
    return x.view(batch, channels, height, width)


def _add_noise(x: Tensor, transforms: Sequence[Transform]) -> Tensor:
    """Normal noise of each image's own deviation, in place. That of a large picture is made a few
    rows at a time: while they are made its numbers take four times their memory."""
    batch, channels, height, width = x.shape
    levels = send(torch.tensor([t.noise for t in transforms], dtype=x.dtype), x.device)
    keys = [t.noise_key for t in transforms]
    if x.numel() <= _NOISE_CHUNK:
        noise = _normal_numbers(keys, x[0].numel(), x.device).view(x.shape)
        x.add_(noise.mul_(levels.view(-1, 1, 1, 1)))
        return x.clamp_(-FILL / 255, 1 - FILL / 255)
    rows = max(1, _NOISE_CHUNK // (batch * width))
    for channel in range(channels):
        for row in range(0, height, rows):
            part = x[:, channel, row : row + rows]  # (B, rows, W)
            first = (channel * height + row) * width
            noise = _normal_numbers(keys, part[0].numel(), x.device, first).view(part.shape)
            part.add_(noise.mul_(levels.view(-1, 1, 1)))
    return x.clamp_(-FILL / 255, 1 - FILL / 255)


def _normal_numbers(
    keys: Sequence[int], count: int, device: torch.device, first: int = 0
) -> Tensor:
    """(B, count) normal numbers, each a hash of its key and its place, from `first` on: the same in
    any batch and on any device. The hash is lowbias32 (Wellons), the numbers Box and Muller's."""
    key = send(torch.tensor(keys, dtype=torch.int32), device).view(-1, 1).mul_(_signed(0x85EBCA6B))
    h = torch.arange(first, first + count, device=device, dtype=torch.int32)
    h = h.mul_(_signed(0x9E3779B1)) + key
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        h.bitwise_xor_(_shifted(h, shift)).mul_(factor)
    h.bitwise_xor_(_shifted(h, 15))
    radius = _shifted(h, 16).float().add_(0.5).div_(65536).log_().mul_(-2).sqrt_()
    return radius.mul_((h & 0xFFFF).float().mul_(2 * math.pi / 65536).cos_())


def _signed(word: int) -> int:
    """32 bits as the signed number that they are, too: MPS has no 64-bit arithmetic to spare, and
    that of 32 bits wraps to the same bits."""
    return word - (1 << 32) if word >> 31 else word


def _shifted(h: Tensor, bits: int) -> Tensor:
    """The 32 bits moved to the right, zeros from the left."""
    return (h >> bits) & ((1 << (32 - bits)) - 1)
