"""A shape prior: what the shapes of the training faces say of the points that maps are unsure of.

Shapes that a similarity has aligned with their mean are taken for Gaussian: a point distribution
model (Cootes et al., 1995). So is the place of a point, about where its map has its peak: a network
that is unsure by a deviation d spreads its Gaussian of deviation s to one of sqrt(s^2 + d^2), and a
peak of 1 falls to s^2 / (s^2 + d^2), so that the score tells d. The most probable shape under both
is the solution of a linear system (as the prior of Saragih et al., 2011).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kptools import geometry as g
from kptools.errors import KptoolsError, UsageError
from kptools.units import Pixels

MODES = 40  # of variation, at most: 99.7 % of what varies in 68 points
MIN_FACES = 20
MIN_POINTS = 3  # of fewer there is no shape
ROUNDS = 4  # of aligning all with their mean
SURE = (0.02, 0.98)  # of the scores, which are 0 to 1

# Deviations, in units of the mean shape's radius: of a similarity that the alignment has got wrong,
# and the least that the modes leave
FREE, LEAST = 1.0, 1e-3


class ShapePrior(nn.Module):
    """Of `count` points K. `doubt` multiplies the deviations that the scores tell: 1 where faces
    are like those of the training, more where they are of another kind and the network is surer
    than it should be.

    In its frame the mean shape (K, 2) lies about the origin, and has a radius (root of the mean
    squared distance) of 1. Each of the modes (M, K, 2) is as long as its standard deviation;
    `rest` is that of each coordinate in what they leave.
    """

    mean: Tensor
    modes: Tensor
    rest: Tensor

    def __init__(self, count: int, doubt: float) -> None:
        super().__init__()
        self.doubt = doubt
        self.register_buffer("mean", torch.zeros(count, 2))
        self.register_buffer("modes", torch.zeros(max(0, min(MODES, 2 * count - 4)), count, 2))
        self.register_buffer("rest", torch.tensor(LEAST))
        self._covariance: NDArray[np.float64] | None = None

    def fit(self, shapes: g.Points, swap: tuple[int, ...] | None = None) -> None:
        """Learn from shapes (N, K, 2), of any place, turn and size; those with a NaN have no part.
        `swap`, the scheme's table of left and right, adds the mirror image of each. UsageError
        where K is too small, KptoolsError where N is."""
        if shapes.shape[1] < MIN_POINTS:
            raise UsageError(
                f"--shape-prior: {shapes.shape[1]} points have no shape; leave the option out"
            )
        whole = shapes[np.isfinite(shapes).all(axis=(1, 2))]
        if len(whole) < MIN_FACES:
            raise KptoolsError(
                f"--shape-prior: {len(whole)} faces with all points; {MIN_FACES} are needed"
            )
        if swap is not None:
            whole = np.concatenate([whole, whole[:, list(swap)] * (-1, 1)])
        mean = _normalized(whole[0])
        for _ in range(ROUNDS):
            aligned = np.stack([g.transform(g.similarity(one, mean), one) for one in whole])
            mean = _normalized(aligned.mean(axis=0))
        deviations = (aligned - aligned.mean(axis=0)).reshape(len(aligned), -1)
        variances, axes = np.linalg.eigh(deviations.T @ deviations / len(deviations))
        count = len(self.modes)
        kept = np.sqrt(variances[::-1][:count].clip(0))[:, None] * axes.T[::-1][:count]
        left = variances.clip(0).sum() - (kept**2).sum()
        rest = np.sqrt(max(left, 0.0) / max(1, mean.size - 4 - count))
        self.mean.copy_(torch.from_numpy(mean))
        self.modes.copy_(torch.from_numpy(kept.reshape(count, -1, 2)))
        self.rest.fill_(max(float(rest), LEAST))
        self._covariance = None

    def most_probable(self, points: g.Points, scores: g.Points, sigma: Pixels) -> g.Points:
        """Of points (K, 2) that maps with labels of `sigma` gave these scores (K,), in 0..1: the
        most probable shape, (K, 2). Points and sigma in one unit, and in one frame of any place,
        turn and size. Points that are not finite, or all in one place, come back as they are."""
        if not np.isfinite(points).all() or not np.ptp(points, axis=0).any():
            return points
        if self._covariance is None:
            self._covariance = self._prior_covariance()
        mean = self.mean.double().cpu().numpy()
        to_frame = g.similarity(points, mean)
        sure = scores.clip(*SURE)
        deviation = self.doubt * sigma * g.zoom(to_frame) * np.sqrt(1 / sure - 1)
        off = (g.transform(to_frame, points) - mean).ravel()
        both = self._covariance + np.diag(np.repeat(deviation**2, 2))
        shape = mean + (self._covariance @ np.linalg.solve(both, off)).reshape(-1, 2)
        return g.transform(g.invert(to_frame), shape)

    def _prior_covariance(self) -> NDArray[np.float64]:
        """(2 K, 2 K), of a shape about the mean: by its modes, what they leave, and a similarity,
        for the points that aligned it may be far off."""
        mean, modes = self.mean.double().cpu().numpy(), self.modes.double().cpu().numpy()
        x, y = mean.T
        one, none = np.ones(len(mean)), np.zeros(len(mean))
        moves = [(one, none), (none, one), (x, y), (-y, x)]  # across, down, larger, turned
        rigid = FREE * np.stack([np.stack(move, axis=-1).ravel() for move in moves])
        flat = np.concatenate([modes.reshape(len(modes), -1), rigid])
        return np.asarray(flat.T @ flat + float(self.rest) ** 2 * np.eye(mean.size))


def _normalized(shape: g.Points) -> g.Points:
    """About the origin, with a radius of 1."""
    centred = shape - shape.mean(axis=0)
    radius = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return np.asarray(centred / radius if radius > 0 else centred)
