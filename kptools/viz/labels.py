"""Where the labels of points go, so that none covers another label or a point."""

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.units import Pixels, Size

ANGLES = 24
RINGS = 9


def place(
    points: g.Points, sizes: NDArray[np.float64], area: Size, reach: Pixels, lines: g.Points
) -> g.Points:
    """The centres (K, 2) of labels of `sizes` (K, 2), each as near to its point (K, 2) as there is
    room: inside the area, `reach` away from all points, on no other label, and better not on
    `lines`, of which points (M, 2) are given. Those with many points about them come first."""
    near = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    crowd = np.sort(near, axis=1)[:, : min(6, len(points))].mean(axis=1)
    centres = np.full(points.shape, np.nan)
    for index in np.argsort(crowd, kind="stable"):
        found = _candidates(points[index], sizes[index], reach)
        cost = _costs(found, sizes[index], points, centres, sizes, area, reach)
        cost += np.where(_covered(found, sizes[index], lines).any(axis=1), reach * 3, 0)
        away = points[index] - _middle(points, near[index])
        turned = (found - points[index]) @ away / (np.hypot(*away) + 1e-9)
        distance = np.hypot(*(found - points[index]).T)
        cost += distance - 0.3 * turned
        centres[index] = found[int(np.argmin(cost))]
    return centres


def _middle(points: g.Points, distances: NDArray[np.float64]) -> g.Points:
    """The mean of the nearest points, from which a label is to point away."""
    nearest: g.Points = points[np.argsort(distances, kind="stable")[: min(8, len(points))]]
    middle: g.Points = nearest.mean(axis=0)
    return middle


def _candidates(point: g.Points, size: NDArray[np.float64], reach: Pixels) -> g.Points:
    """Places (N, 2) round a point: on rings about which a label of this size clears the point."""
    angles = 2 * np.pi * np.arange(ANGLES) / ANGLES
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    steps = 1 + 0.8 * np.arange(RINGS)[:, None, None]
    found: g.Points = (point + rays * (size / 2 + reach) * steps).reshape(-1, 2)
    return found


def _costs(
    found: g.Points,
    size: NDArray[np.float64],
    points: g.Points,
    centres: g.Points,
    sizes: NDArray[np.float64],
    area: Size,
    reach: Pixels,
) -> NDArray[np.float64]:
    """What speaks against each place (N,): labels and points that it would cover, and the edge."""
    apart = np.abs(found[:, None] - centres[None])  # NaN: not placed
    labels = (apart < (size + sizes[None]) / 2 + 1).all(axis=2).sum(axis=1)
    covered = _covered(found, size + 1.6 * reach, points)
    outside = ((found < size / 2) | (found > np.array(area) - size / 2)).any(axis=1)
    cost: NDArray[np.float64] = 1000.0 * labels + 500.0 * covered.sum(axis=1) + 2000.0 * outside
    return cost


def _covered(found: g.Points, size: NDArray[np.float64], points: g.Points) -> NDArray[np.bool_]:
    """Whether a label at each place (N,) covers each point (M,): (N, M)."""
    apart = np.abs(found[:, None] - points[None])
    return np.asarray((apart < size / 2).all(axis=2))
