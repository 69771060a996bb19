"""The warp of `kptools.pixels.warp` by NumPy, one face at a time: for who has no torch."""

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.pixels import prefilter
from kptools.pixels.decode import Pixels8
from kptools.specs import FILL
from kptools.units import Pixels, Size

Levels = NDArray[np.float32]  # (H, W, C)


def warp(pixels: Pixels8, m: g.Matrix, size: Size) -> Levels:
    """Resample bilinearly, filtered where that shrinks: (Hs, Ws, C) uint8 to (H, W, C) float32, 0
    to 255; mid-grey (`FILL`) where the source has nothing. `m` maps the output's continuous
    coordinates to the source's."""
    ((across, down),) = prefilter.deviations(m[None]).tolist()
    x = pixels.astype(np.float32) - FILL
    return _bilinear(_smooth(_smooth(x, down, 0), across, 1), m, size) + FILL


def _smooth(x: Levels, sigma: Pixels, axis: int) -> Levels:
    """Gaussian blur along an axis, the edges repeated."""
    if not sigma:
        return x
    ((*taps,),) = prefilter.gaussians(np.array([sigma]), x.shape[axis]).astype(np.float32)
    radius = len(taps) // 2
    around = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
    padded = np.moveaxis(np.pad(x, around, mode="edge"), axis, 0)
    length = x.shape[axis]
    smoothed = sum(tap * padded[i : i + length] for i, tap in enumerate(taps))
    return np.moveaxis(np.asarray(smoothed), 0, axis)


def _bilinear(x: Levels, m: g.Matrix, size: Size) -> Levels:
    """What lies at the places of an output of this size, zero where that is outside."""
    height, width, channels = x.shape
    rim = np.pad(x, ((1, 1), (1, 1), (0, 0))).reshape(-1, channels)  # zeros, for what is outside
    u, v = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5
    at_x, at_y = (row[0] * u + row[1] * v + row[2] + 0.5 for row in m)  # pixels of `rim`
    left, top = np.floor(at_x), np.floor(at_y)
    right_share, lower_share = at_x - left, at_y - top
    result = np.zeros((size[1], size[0], channels), np.float32)
    for dy, of_row in ((0, 1 - lower_share), (1, lower_share)):
        row = np.clip(top + dy, 0, height + 1).astype(np.intp)
        for dx, of_column in ((0, 1 - right_share), (1, right_share)):
            column = np.clip(left + dx, 0, width + 1).astype(np.intp)
            share = (of_row * of_column).astype(np.float32)
            result += rim[row * (width + 2) + column] * share[..., None]
    return result
