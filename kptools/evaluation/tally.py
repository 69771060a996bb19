"""The errors of many faces, reduced as they come."""

import math
from array import array
from typing import TypeAlias

import numpy as np

from kptools.evaluation.metrics import METRICS, Metric
from kptools.evaluation.score import Errors, Score
from kptools.schemes.scheme import Scheme

Figures: TypeAlias = dict[str, float | int | None]


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
        self.faces += 1
        self.coordinates += score.apart.size
        for metric in METRICS:
            if metric.of_face is not None:
                total, count = metric.of_face(score)
                before = self._sums[metric.name]
                self._sums[metric.name] = before[0] + total, before[1] + count
            if metric.only_if is not None and metric.only_if(score):
                self._shown.add(metric.name)
        known = score.known
        if not (score.norm > 0 and known.any()):
            return
        relative = score.distances / score.norm
        self.nmes.append(float(relative[known].mean()))
        grow = max(0, len(relative) - len(self.point_sums))
        self.point_sums = np.pad(self.point_sums, (0, grow))
        self.point_counts = np.pad(self.point_counts, (0, grow))
        self.point_sums[: len(relative)][known] += relative[known]
        self.point_counts[: len(relative)] += known

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
