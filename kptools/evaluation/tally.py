"""The errors of many faces, reduced as they come."""

from array import array

import numpy as np

from kptools.evaluation.metrics import auc, failure_rate
from kptools.evaluation.score import Score
from kptools.schemes.scheme import Scheme


class Tally:
    """The errors of a set of faces, reduced as they come: sums, and two numbers a face.

    MAE, RMSE and MSE are means over coordinates, NME is the mean over faces of each face's mean
    distance over its norm; a failed face is infinite to AUC and failure rate, and in no mean.
    """

    def __init__(self) -> None:
        self.nmes = array("d")  # one a face that has a norm; infinite for a failure
        self.faces = self.failed = 0
        self.coordinates = 0
        self.absolute = self.squared = self.relative = 0.0
        self.original = 0.0  # absolute, in pixels of the original photo
        self.scaled = False
        self.point_sums = np.zeros(0)  # of distance over norm, by point
        self.point_counts = np.zeros(0, dtype=np.int64)

    def fail(self) -> None:
        self.faces += 1
        self.failed += 1
        self.nmes.append(np.inf)

    def add(self, score: Score) -> None:
        """Add a face. Where its norm is not known it has no part in NME."""
        self.faces += 1
        known = np.isfinite(score.offsets).all(axis=1)
        apart = np.abs(score.offsets[known])
        total = float(apart.sum())
        self.coordinates += apart.size
        self.absolute += total
        self.original += total * (score.scale or 1.0)
        self.scaled |= score.scale is not None
        self.squared += float((apart * apart).sum())
        self.relative += float(((apart / (score.size or np.nan)) ** 2).sum())
        if not (score.norm > 0 and known.any()):
            return
        relative = score.distances / score.norm
        self.nmes.append(float(relative[known].mean()))
        grow = max(0, len(relative) - len(self.point_sums))
        self.point_sums = np.pad(self.point_sums, (0, grow))
        self.point_counts = np.pad(self.point_counts, (0, grow))
        self.point_sums[: len(relative)][known] += relative[known]
        self.point_counts[: len(relative)] += known

    def report(self, threshold: float) -> dict[str, float | int | None]:
        """All metrics under their names; None where no face had one."""
        nmes = np.frombuffer(self.nmes, dtype=np.float64) if self.nmes else np.zeros(0)
        scored = nmes[np.isfinite(nmes)]
        n = self.coordinates
        result: dict[str, float | int | None] = {
            "faces": self.faces,
            "failed": self.failed,
            "without_norm": self.faces - len(nmes),
            "mae": self.absolute / n if n else None,
            "rmse": float(np.sqrt(self.squared / n)) if n else None,
            "mse": self.relative / n if n else None,
            "nme": float(scored.mean()) if len(scored) else None,
            "nme_median": float(np.median(scored)) if len(scored) else None,
            "nme_p90": float(np.percentile(scored, 90)) if len(scored) else None,
            "nme_p95": float(np.percentile(scored, 95)) if len(scored) else None,
            "nme_max": float(scored.max()) if len(scored) else None,
            "auc": auc(nmes, threshold) if len(nmes) else None,
            "failure_rate": failure_rate(nmes, threshold) if len(nmes) else None,
        }
        if self.scaled:
            result["mae_original"] = self.original / n if n else None
        return result

    def by_point(self) -> list[float | None]:
        """NME of each point, over the faces where it is annotated."""
        pairs = zip(self.point_sums.tolist(), self.point_counts.tolist(), strict=True)
        return [total / count if count else None for total, count in pairs]

    def by_region(self, scheme: Scheme) -> dict[str, float | None]:
        """NME of each of the scheme's regions, its points weighted by how often they are known."""
        result: dict[str, float | None] = {}
        for name, region in scheme.regions.items():
            keep = list(region)
            count = int(self.point_counts[keep].sum()) if len(self.point_counts) else 0
            result[name] = float(self.point_sums[keep].sum()) / count if count else None
        return result
