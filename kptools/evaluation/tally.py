"""The errors of many faces, reduced as they come."""

import math
from array import array
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools.evaluation.metrics import METRICS, Metric
from kptools.evaluation.score import Errors, Score
from kptools.schemes.scheme import Scheme

Figures: TypeAlias = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one face adds to a tally: its sums and counts by metric, the metrics that it shows, and
    where its norm is known its NME and its distances over the norm (K,), 0 where not `known`."""

    coordinates: int
    sums: dict[str, tuple[float, int]]
    shown: tuple[str, ...]
    known: NDArray[np.bool_]
    nme: float = math.nan
    relative: Errors | None = None


def measure(score: Score) -> Measured:
    """What a face adds to the tallies that count it."""
    known = score.known
    sums = {m.name: m.of_face(score) for m in METRICS if m.of_face is not None}
    shown = tuple(m.name for m in METRICS if m.only_if is not None and m.only_if(score))
    if not (score.norm > 0 and known.any()):
        return Measured(score.apart.size, sums, shown, known)
    relative = score.distances / score.norm
    nme = float(relative[known].mean())
    return Measured(score.apart.size, sums, shown, known, nme, np.where(known, relative, 0.0))


class Tally:
    """The errors of a set of faces: a sum and a count a metric, and a number a face.

    A failed face is infinite to AUC and failure rate, and in no mean.
    """

    def __init__(self) -> None:
        self.nmes = array("d")  # one a face that has a norm; infinite for a failure
        self.faces = self.failed = 0
        self.coordinates = 0
        self._sums = {metric.name: (0.0, 0) for metric in METRICS if metric.of_face}
        self._shown: set[str] = set()  # of the metrics that are there for some faces only
        self.point_sums = np.zeros(0)  # of distance over norm, by point
        self.point_counts = np.zeros(0, dtype=np.int64)

    def fail(self) -> None:
        """Add a face that failed."""
        self.faces += 1
        self.failed += 1
        self.nmes.append(np.inf)

    def add(self, score: Score) -> None:
        """Add a face. Where its norm is not known it has no part in NME."""
        self.count(measure(score))

    def count(self, face: "Measured") -> None:
        """As `add`, of a face that several tallies count."""
        self.faces += 1
        self.coordinates += face.coordinates
        for name, (total, count) in face.sums.items():
            before = self._sums[name]
            self._sums[name] = before[0] + total, before[1] + count
        self._shown.update(face.shown)
        if face.relative is None:
            return
        self.nmes.append(face.nme)
        grow = len(face.relative) - len(self.point_sums)
        if grow > 0:
            self.point_sums = np.pad(self.point_sums, (0, grow))
            self.point_counts = np.pad(self.point_counts, (0, grow))
        self.point_sums[: len(face.relative)] += face.relative
        self.point_counts[: len(face.relative)] += face.known

    @property
    def errors(self) -> Errors:
        """(N,): the NME of each face that has a norm, infinite for a failure."""
        return np.array(self.nmes, dtype=np.float64)

    def report(self, threshold: float) -> Figures:
        """All metrics under their names; None where no face had one."""
        errors = self.errors
        counts: Figures = {
            "faces": self.faces,
            "failed": self.failed,
            "without_norm": self.faces - len(errors),
        }
        always = [metric for metric in METRICS if metric.only_if is None]
        sometimes = [metric for metric in METRICS if metric.name in self._shown]
        values = {m.name: self._value(m, errors, threshold) for m in (*always, *sometimes)}
        return counts | values

    def _value(self, metric: Metric, errors: Errors, threshold: float) -> float | None:
        if metric.of_errors is not None:
            value = metric.of_errors(errors, threshold) if len(errors) else math.nan
            return None if math.isnan(value) else value
        total, count = self._sums[metric.name]
        return metric.finish(total / count) if count else None

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
