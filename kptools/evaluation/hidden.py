"""How well hidden points are found: the average precision of `pred_visible` by `visible`.

Points are ranked from that which is most probably hidden on. The precision at a rank is the share
of hidden points down to it, and the average precision the mean of the precisions at the hidden
points, where those of one probability are of one rank: sum of (R_n - R_(n-1)) P_n over the ranks,
by recall R and precision P. A ranking by chance has the share of the hidden points.
"""

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 16  # of the probabilities from 0 to 1: what is held does not grow with the faces


class HiddenTally:
    """The hidden and the seen points of faces, by the probability that they are seen."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, BINS), dtype=np.int64)  # hidden, seen

    def add(self, visible: NDArray[np.float64], predicted: NDArray[np.float64]) -> None:
        """Add points: whether each is seen (N,), 1 or 0, NaN where that is not known, and the
        probability that it is (N,)."""
        known = np.isfinite(visible)
        bins = np.minimum((predicted[known].clip(0, 1) * BINS).astype(int), BINS - 1)
        np.add.at(self._counts, ((visible[known] > 0.5).astype(int), bins), 1)

    def report(self) -> dict[str, float]:
        """`hidden_ap`, the average precision, and `hidden_share` of the points, which is that of
        chance; nothing where no point is hidden, or none was added."""
        hidden, every = np.cumsum(self._counts[0]), np.cumsum(self._counts.sum(axis=0))
        if not hidden[-1]:
            return {}
        precision = hidden / np.maximum(every, 1)
        average = float((self._counts[0] * precision).sum() / hidden[-1])
        return {"hidden_ap": average, "hidden_share": float(hidden[-1] / every[-1])}
