"""Risk and coverage: how far the error falls where points of a low score are left out.

After El-Yaniv and Wiener (2010): the coverage is the share of the points that are kept, those of
the highest scores, and the risk their mean error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kptools.evaluation.score import Errors

BINS = 4096  # of the scores from 0 to 1: what is held does not grow with the faces


@dataclass(frozen=True)
class Curve:
    """`coverage` (n,), rising to 1, the `risk` (n,) at each, and the least `score` (n,) kept."""

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    score: NDArray[np.float64]


class RiskTally:
    """The errors of points by their scores."""

    def __init__(self) -> None:
        self._sums = np.zeros(BINS)
        self._counts = np.zeros(BINS, dtype=np.int64)

    @property
    def points(self) -> int:
        """How many were added."""
        return int(self._counts.sum())

    def add(self, scores: NDArray[np.float64], errors: Errors) -> None:
        """Add the points of a face, (K,) and (K,); one whose error is NaN has no part."""
        known = np.isfinite(errors)
        bins = np.minimum((scores[known].clip(0, 1) * BINS).astype(int), BINS - 1)
        np.add.at(self._sums, bins, errors[known])
        np.add.at(self._counts, bins, 1)

    def curve(self) -> Curve:
        """From the points of the highest score to all."""
        used = np.flatnonzero(self._counts)[::-1]
        counts, sums = np.cumsum(self._counts[used]), np.cumsum(self._sums[used])
        return Curve(counts / max(1, self.points), sums / counts, used / BINS)

    def by_tenth(self) -> list[float]:
        """The mean error of each tenth of the points, from that of the lowest scores to that of
        the highest; of points of one score, as if each had their mean error. [] without points."""
        if not self.points:
            return []
        counts = np.concatenate([[0], np.cumsum(self._counts)])
        sums = np.concatenate([[0.0], np.cumsum(self._sums)])
        edges = np.interp(np.linspace(0, self.points, 11), counts, sums)
        means: list[float] = (np.diff(edges) / (self.points / 10)).tolist()
        return means
