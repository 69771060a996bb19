"""Shapes that are unlike the others: mirrored labels, points that are off, faces that are none.

Shapes that a similarity has aligned with their mean are taken for Gaussian: a point distribution
model (Cootes et al., 1995). The distance of a shape is Mahalanobis'; that of a point is how far it
is from where the other points of its face say that it is, in the same units.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g

MIN_FACES = 20  # to know what is usual
MIN_POINTS = 3  # of fewer there is no shape
MODES = 40  # of variation, at most
POSES = 3  # modes, of which the place of the box may depend
TRIMMED = 0.05  # the share of shapes, furthest from the mean, that the last fits leave out
MIN_STD = 1e-3  # of a coordinate, in units of the shape's radius
MIRRORED = 0.7  # so much nearer to the mean a shape is once its left and right change places


class ShapeModel:
    """What is usual in shapes (N, K, 2), file frame, each whole; `swap` is their scheme's table of
    left and right, by which the mirror image of each counts as well. ValueError where N or K is too
    small."""

    def __init__(self, shapes: g.Points, swap: tuple[int, ...] | None) -> None:
        shapes = shapes[np.ptp(shapes, axis=1).any(axis=1)]
        if shapes.shape[1] < MIN_POINTS or len(shapes) < MIN_FACES:
            raise ValueError(f"{len(shapes)} shapes of {shapes.shape[1]} points")
        self._swap = list(swap) if swap is not None else None
        self._inverse = lru_cache(maxsize=64)(self._inverse_of)
        self._fit(shapes)
        distances = np.array([self._from_mean(shape) for shape in shapes])
        for _ in range(2):
            self._fit(shapes[distances <= np.quantile(distances, 1 - TRIMMED)])
            distances = np.array([self.distances(shape)[0] for shape in shapes])

    def distances(self, points: g.Points) -> tuple[float, float]:
        """How far a face (K, 2), NaN where not annotated, is from the usual: its shape, and the one
        of its points that is furthest from where the others say. Of fewer than 4 points 0 and 0."""
        known = np.isfinite(points).all(axis=1)
        if known.sum() <= MIN_POINTS or not np.ptp(points[known], axis=0).any():
            return 0.0, 0.0
        off = (self.aligned(points) - self.mean)[known]
        inverse = self._inverse(known.tobytes())
        pull = inverse @ off.ravel()
        count = len(off)
        blocks = inverse.reshape(count, 2, count, 2)[np.arange(count), :, np.arange(count), :]
        pulls = pull.reshape(count, 2)
        points_off = np.einsum("ki,ki->k", pulls, np.linalg.solve(blocks, pulls[..., None])[..., 0])
        return float(np.sqrt(off.ravel() @ pull / (count - 2))), float(np.sqrt(points_off.max()))

    def pose(self, points: g.Points) -> NDArray[np.float64]:
        """How the shape differs from the mean along its largest modes (POSES,), which are those of
        a face that turns and opens its mouth, in standard deviations."""
        off = np.nan_to_num(self.aligned(points) - self.mean).ravel()
        found: NDArray[np.float64] = self._poses @ off
        return found

    def is_mirrored(self, points: g.Points) -> bool:
        """Whether the points (K, 2) fit better with left and right in each other's place."""
        if self._swap is None:
            return False
        return self._from_mean(points[self._swap]) < MIRRORED * self._from_mean(points)

    def aligned(self, points: g.Points) -> g.Points:
        """The shape (K, 2) in the frame of the mean, whose radius is 1."""
        return g.transform(g.similarity(points, self.mean), points)

    def _from_mean(self, points: g.Points) -> float:
        """The root of the mean squared distance of the points from those of the mean."""
        return float(np.sqrt(np.nanmean((self.aligned(points) - self.mean) ** 2)))

    def _fit(self, shapes: g.Points) -> None:
        if self._swap is not None:
            shapes = np.concatenate([shapes, shapes[:, self._swap] * (-1, 1)])
        count = shapes.shape[1]
        aligned, mean = g.aligned(shapes)
        off = g.from_complex(aligned - mean)
        variances, axes = np.linalg.eigh(off.T @ off / len(off))
        modes = min(MODES, max(1, 2 * count - 4), len(off) // 4)
        left = max(0.0, float(variances[:-modes].clip(0).sum())) / max(1, 2 * count - 4 - modes)
        rest = max(left, MIN_STD**2)
        spread = (variances[-modes:].clip(0) - rest).clip(0)
        self.covariance = (axes[:, -modes:] * spread) @ axes[:, -modes:].T
        self.covariance += rest * np.eye(2 * count)
        largest = variances[: -POSES - 1 : -1, None].clip(MIN_STD**2)
        self._poses = axes.T[: -POSES - 1 : -1] / np.sqrt(largest)
        self.mean: g.Points = g.from_complex(mean / np.sqrt((abs(mean) ** 2).mean())).reshape(
            count, 2
        )
        # of a face of which points are missing, the alignment is another than by all points
        x, y = self.mean.T
        one, none = np.ones(count), np.zeros(count)
        for move in ((one, none), (none, one), (x, y), (-y, x)):  # across, down, larger, turned
            column = np.stack(move, axis=-1).ravel()
            self.covariance += np.outer(column, column)
        self._inverse.cache_clear()

    def _inverse_of(self, known: bytes) -> NDArray[np.float64]:
        """Of the covariance of the points that are known."""
        rows = np.repeat(np.frombuffer(known, bool), 2)
        inverse: NDArray[np.float64] = np.linalg.inv(self.covariance[np.ix_(rows, rows)])
        return inverse
