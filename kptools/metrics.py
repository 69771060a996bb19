"""Metrics, as the field defines them; README.md says the same in words.

The errors of one face are unreduced (`Score`); `Tally` reduces those of many, once.
"""

import math
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.schemes import Scheme
from kptools.units import Box, Pixels, Size

NORMS = ("interocular", "interpupil", "box", "diagonal")
Errors = NDArray[np.float64]

# The metrics of `Tally.report` that are over a norm
OVER_NORM = ("nme", "nme_median", "nme_p90", "nme_p95", "nme_max", "auc", "failure_rate")


def norm_for(scheme: Scheme | None, wanted: str | None) -> str:
    """The norm that is used: the one wanted; by default interocular, or the box for a scheme whose
    eyes are not known. RecordError where a norm of the eyes is wanted and there are none."""
    eyes = {"interocular": scheme and scheme.corners, "interpupil": scheme and scheme.pupils}
    if wanted is None:
        return "interocular" if eyes["interocular"] else "box"
    if wanted in eyes and not eyes[wanted]:
        name = scheme.name if scheme else "a scheme that is not known"
        raise RecordError(
            "bad_scheme", f"{name} has no eyes for the norm {wanted}; use --norm box or diagonal"
        )
    return wanted


def norm(
    name: str, truth: g.Points, scheme: Scheme | None, box: Box | None, size: Size | None
) -> Pixels:
    """The length that distances are divided by, pixels; NaN where the eyes are not annotated.
    `scheme`, `box` or `size` is needed where the norm is made of it."""
    if name == "interocular":
        assert scheme is not None
        right, left = (truth[i] for i in scheme.corners)
        return float(np.hypot(*(right - left)))
    if name == "interpupil":
        assert scheme is not None
        right, left = (truth[list(eye)].mean(axis=0) for eye in scheme.pupils)
        return float(np.hypot(*(right - left)))
    if name == "diagonal":
        assert size is not None
        return float(np.hypot(*size))
    assert box is not None
    return g.side(box)


def auc(errors: Errors, threshold: float) -> float:
    """Area under the cumulative error distribution from 0 to the threshold, over the threshold:
    exact for the step function. `errors` holds one number a face, infinite for a failure."""
    if not len(errors):
        return float("nan")
    return float(np.clip(1 - errors / threshold, 0, None).mean())


def failure_rate(errors: Errors, threshold: float) -> float:
    """The share of faces whose error is over the threshold; failures count."""
    return float((errors > threshold).mean()) if len(errors) else float("nan")


@dataclass(frozen=True)
class Score:
    """How far one face's points are from the truth. `offsets`: (K, 2) pixels of the file, NaN
    where the truth is not annotated. `norm`: the length that distances are divided by, NaN where
    it is not known, 1 where the norm's name is `pixels`. `size` of the image and `scale` to the
    original photo are what MSE and the original's MAE need."""

    offsets: g.Points
    norm: Pixels
    norm_name: str
    size: Size | None = None
    scale: float | None = None

    @property
    def distances(self) -> Errors:
        """(K,) pixels."""
        distances: Errors = np.hypot(*self.offsets.T)
        return distances

    @property
    def error(self) -> float:
        """The mean distance over the norm (NME), or in pixels; NaN where there is none."""
        return mean(self.distances / self.norm)

    @property
    def text(self) -> str:
        if math.isnan(self.error):
            return "no norm: an eye is not annotated"
        if self.norm_name == "pixels":
            return f"{self.error:.2f} px"
        return f"NME {100 * self.error:.2f} % {self.norm_name}"


def mean(values: Errors) -> float:
    """The mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


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
