"""Where the labels of points go, so that none covers another label or a point."""

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.units import Pixels, Size

ANGLES = 24
STEPS = 1 + 0.8 * np.arange(9)  # how far from its point a label may be, the nearest is 1
NEIGHBOURS = 8


def place(
    points: g.Points, sizes: NDArray[np.float64], area: Size, reach: Pixels, lines: g.Points
) -> g.Points:
    """The centres (K, 2) of labels of `sizes` (K, 2), each as near to its point (K, 2) as there is
    room: inside the area, `reach` away from all points, on no other label, and better not on
    `lines`, of which points (M, 2) are given. Those with many points about them come first."""
    centres = np.full(points.shape, np.nan)
    middles, crowds = zip(*(_about(point, points) for point in points), strict=True)
    for index in np.argsort(crowds, kind="stable"):
        point, size = points[index], sizes[index]
        found = _candidates(point, size, reach)
        far = STEPS[-1] * (size / 2 + reach) + sizes.max(axis=0) + reach
        there = _within(point, far, centres)  # NaN, not placed yet, is not there
        labels = _covered(found, size + sizes[there] + 2, centres[there]).sum(axis=1)
        covered = _covered(found, size + 1.6 * reach, points[_within(point, far, points)])
        crossed = _covered(found, size, lines[_within(point, far, lines)])
        outside = ((found < size / 2) | (found > np.array(area) - size / 2)).any(axis=1)
        away = point - middles[index]
        turned = (found - point) @ away / (np.hypot(*away) + 1e-9)
        cost = np.hypot(*(found - point).T) - 0.3 * turned + 3 * reach * crossed.any(axis=1)
        cost = cost + 1000 * labels + 500 * covered.sum(axis=1) + 2000 * outside
        centres[index] = found[int(np.argmin(cost))]
    return centres


def _about(point: g.Points, points: g.Points) -> tuple[g.Points, float]:
    """The mean of the nearest points, from which a label is to point away, and how far they are."""
    distances = np.hypot(*(points - point).T)
    nearest = np.argsort(distances, kind="stable")[:NEIGHBOURS]
    return points[nearest].mean(axis=0), float(distances[nearest].mean())


def _candidates(point: g.Points, size: NDArray[np.float64], reach: Pixels) -> g.Points:
    """Places (N, 2) round a point: on rings about which a label of this size clears the point."""
    angles = 2 * np.pi * np.arange(ANGLES) / ANGLES
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found: g.Points = (point + rays * (size / 2 + reach) * STEPS[:, None, None]).reshape(-1, 2)
    return found


def _within(point: g.Points, reach: NDArray[np.float64], others: g.Points) -> NDArray[np.bool_]:
    """Which of the others (M, 2) may have to do with a label of this point: (M,)."""
    return np.asarray((np.abs(others - point) < reach).all(axis=1))


def _covered(found: g.Points, size: NDArray[np.float64], others: g.Points) -> NDArray[np.bool_]:
    """Whether a label of this size (2,) or (M, 2) at each place (N, 2) covers each of the others
    (M, 2): (N, M)."""
    apart = np.abs(found[:, None] - others[None])
    return np.asarray((apart < size / 2).all(axis=2))
