"""The 1 Euro filter (Casiez, Roussel and Vogel, CHI 2012, "1 Euro Filter: A Simple Speed-based
Low-pass Filter for Noisy Input in Interactive Systems") of the points of one face.

A low-pass filter whose cutoff rises with speed: points at rest are smoothed most, since there
jitter is seen, and points that move least, since there lag is. Speeds are in sizes of the face a
second, so that the parameters fit faces of any size.
"""

import math

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.units import Pixels, Seconds

SPEED_CUTOFF = 1.0  # Hz, of the filter of the speed: the paper's


class OneEuro:
    """The filter of K points. `min_cutoff`: Hz, of a point at rest. `beta`: by how many Hz the
    cutoff rises for each face size a second."""

    def __init__(self, min_cutoff: float, beta: float) -> None:
        self.min_cutoff, self.beta = min_cutoff, beta
        self._points: g.Points | None = None  # as they were filtered last
        self._speeds = np.zeros((0, 2))
        self._time: Seconds = 0.0

    def __call__(self, points: g.Points, time: Seconds, size: Pixels) -> g.Points:
        """The points (K, 2), smoothed. `time` is later than that of the call before, `size` that of
        the face. A point that is NaN stays so, and begins anew when it is back."""
        if self._points is None:
            self._points, self._speeds, self._time = points, np.zeros_like(points), time
            return points
        step = time - self._time
        moved = points - self._points
        is_new = np.isnan(moved)
        speeds = np.where(is_new, 0.0, moved / step)
        self._speeds += _weight(np.array(SPEED_CUTOFF), step) * (speeds - self._speeds)
        self._speeds[is_new] = 0.0
        cutoffs = self.min_cutoff + self.beta * np.abs(self._speeds) / size
        smooth = self._points + _weight(cutoffs, step) * moved
        self._points, self._time = np.where(is_new, points, smooth), time
        return self._points


def _weight(cutoffs: NDArray[np.float64], step: Seconds) -> NDArray[np.float64]:
    """How much of a new value is taken: the filters' alpha."""
    turn = 2 * math.pi * cutoffs * step
    weight: NDArray[np.float64] = turn / (turn + 1)
    return weight
