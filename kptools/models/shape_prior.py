"""A shape prior: what the shapes of the training faces say of the points that maps are unsure of.

Shapes that a similarity has aligned with their mean are taken for Gaussian: a point distribution
model (Cootes et al., 1995). So is the place of a point, with the covariance that its map tells
(`kptools.models.codecs.heatmap.covariance`). The most probable shape under both is the solution of
a linear system (as in Saragih et al., 2011).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kptools import geometry as g
from kptools.errors import KptoolsError, UsageError

MODES = 40  # of variation, at most: 99.7 % of what varies in 68 points
MIN_FACES = 20
MIN_POINTS = 3  # of fewer there is no shape

# In units of the mean shape's radius: the standard deviation of what an alignment by points that
# are off has got wrong, and the least of a coordinate beyond the modes
SIMILARITY_STD, MIN_STD = 1.0, 1e-3


@dataclass(frozen=True)
class _Arrays:
    """The prior in NumPy: `mean` (K, 2), `factor` (M + 4, K, 2) and `residual_std`. With `factor`
    as a matrix, a shape about the mean has the covariance factor.T @ factor + residual_std^2."""

    mean: g.Points
    factor: NDArray[np.float64]
    residual_std: float


class ShapePrior(nn.Module):
    """Of `count` points K. `noise_scale` multiplies the deviations that the maps tell: 1 where
    faces are like those of the training, more where they are of another kind and the network is
    surer than it should be.

    In its frame the mean shape (K, 2) lies about the origin, and has a radius (root of the mean
    squared distance) of 1. Each of the modes (M, K, 2) is as long as its standard deviation;
    `residual_std` is that of each coordinate in what they leave.
    """

    mean: Tensor
    modes: Tensor
    residual_std: Tensor

    def __init__(self, count: int, noise_scale: float) -> None:
        super().__init__()
        self.noise_scale = noise_scale
        self.register_buffer("mean", torch.zeros(count, 2))
        self.register_buffer("modes", torch.zeros(max(0, min(MODES, 2 * count - 4)), count, 2))
        self.register_buffer("residual_std", torch.tensor(MIN_STD))
        self._arrays: _Arrays | None = None  # made when it is first used

    def fit(self, shapes: g.Points, swap: tuple[int, ...] | None = None) -> None:
        """Learn from shapes (N, K, 2), of any place, turn and size. Those with a NaN, or with all
        points in one place, have no part. `swap`, the scheme's table of left and right, adds the
        mirror image of each. UsageError where K is too small, KptoolsError where N is."""
        count = shapes.shape[1]
        if count < MIN_POINTS:
            number = "1 point has" if count == 1 else f"{count} points have"
            raise UsageError(f"--shape-prior: {number} no shape; leave the option out")
        whole = shapes[np.isfinite(shapes).all(axis=(1, 2))]
        whole = whole[np.ptp(whole, axis=1).any(axis=1)]
        if len(whole) < MIN_FACES:
            raise KptoolsError(
                f"--shape-prior: {len(whole)} faces with all points; {MIN_FACES} are needed"
            )
        if swap is not None:
            whole = np.concatenate([whole, whole[:, list(swap)] * (-1, 1)])
        aligned, mean = g.aligned(whole)
        deviations = g.from_complex(aligned - mean)
        variances, axes = np.linalg.eigh(deviations.T @ deviations / len(deviations))
        kept = len(self.modes)
        modes = np.sqrt(variances[::-1][:kept].clip(0))[:, None] * axes.T[::-1][:kept]
        left = max(0.0, float(variances.clip(0).sum() - (modes**2).sum()))
        residual_std = np.sqrt(left / max(1, 2 * count - 4 - kept))
        mean = mean / np.sqrt((abs(mean) ** 2).mean())
        self.mean.copy_(torch.from_numpy(g.from_complex(mean).reshape(count, 2)))
        self.modes.copy_(torch.from_numpy(modes.reshape(kept, count, 2)))
        self.residual_std.fill_(max(float(residual_std), MIN_STD))
        self._arrays = None

    def most_probable(self, points: g.Points, covariance: NDArray[np.float64]) -> g.Points:
        """The most probable shape (K, 2), of points (K, 2) that are unsure by a covariance
        (K, 2, 2); in one frame of any place, turn and size. Points that are not finite, or all in
        one place, come back as they are."""
        if not np.isfinite(points).all() or not np.ptp(points, axis=0).any():
            return points
        if self._arrays is None:
            self._arrays = self._to_arrays()
        mean, factor = self._arrays.mean, self._arrays.factor
        to_frame = g.similarity(points, mean)
        if not g.zoom(to_frame) > 0:
            return points
        linear = self.noise_scale * to_frame[:, :2]
        noise = linear @ covariance @ linear.T
        off = g.transform(to_frame, points) - mean
        # prior @ (prior + noise)^-1 @ off, by Woodbury's identity: a system as small as the modes
        own = self._arrays.residual_std**2
        weight = np.linalg.inv(noise + own * np.eye(2))  # (K, 2, 2)
        weighed = np.einsum("mki,kij->mkj", factor, weight).reshape(len(factor), -1)
        flat = factor.reshape(len(factor), -1)
        inner = np.eye(len(factor)) + weighed @ flat.T
        solved = np.einsum("kij,kj->ki", weight, off).ravel()
        solved -= weighed.T @ np.linalg.solve(inner, weighed @ off.ravel())
        shape = mean + (flat.T @ (flat @ solved) + own * solved).reshape(-1, 2)
        return g.transform(g.invert(to_frame), shape)

    def _to_arrays(self) -> _Arrays:
        """From the buffers, on whatever device."""
        mean, modes = (t.cpu().numpy().astype(np.float64) for t in (self.mean, self.modes))
        x, y = mean.T
        one, none = np.ones(len(mean)), np.zeros(len(mean))
        moves = [(one, none), (none, one), (x, y), (-y, x)]  # across, down, larger, turned
        similarity = np.stack([np.stack(move, axis=-1) for move in moves])
        factor = np.concatenate([modes, SIMILARITY_STD * similarity])
        return _Arrays(mean, factor, float(self.residual_std))


class ShapePriors(nn.Module):
    """A shape prior for each scheme of a network of several: no face shows the points of them all.
    Its methods are those of `ShapePrior`, of all their points, one scheme after the other."""

    def __init__(self, counts: Sequence[int], noise_scale: float) -> None:
        super().__init__()
        self.counts = tuple(counts)
        self.parts = nn.ModuleList(ShapePrior(count, noise_scale) for count in counts)

    def fit(self, shapes: g.Points, swap: tuple[int, ...] | None = None) -> None:
        for prior, block in self._blocks():
            own = None if swap is None else tuple(i - block.start for i in swap[block])
            prior.fit(shapes[:, block], own)

    def most_probable(self, points: g.Points, covariance: NDArray[np.float64]) -> g.Points:
        return np.concatenate(
            [prior.most_probable(points[at], covariance[at]) for prior, at in self._blocks()]
        )

    def _blocks(self) -> Iterator[tuple[ShapePrior, slice]]:
        first = 0
        for prior, count in zip(self.parts, self.counts, strict=True):
            assert isinstance(prior, ShapePrior)
            yield prior, slice(first, first + count)
            first += count
