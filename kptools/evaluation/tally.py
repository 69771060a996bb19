"""The errors of many faces, reduced as they come."""

import math
from array import array
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools.evaluation.metrics import BY_NAME, METRICS, Metric
from kptools.evaluation.score import Errors, Flags, Scores
from kptools.schemes.scheme import Scheme

Figures: TypeAlias = dict[str, float | int | None]


@dataclass(frozen=True)
class Measured:
    """What B faces add to a tally: the sum of each metric (B,) and whether each face shows it, how
    many points of each are known (B,), and which (B, K), and over their norms the NME (B,), NaN
    where there is none, and the distances (B, K)."""

    sums: dict[str, Errors]
    shown: dict[str, Flags]
    counts: NDArray[np.int64]
    known: Flags
    errors: Errors
    relative: Errors

    def of_faces(self, rows: NDArray[np.intp]) -> "Measured":
        """What some of the faces add."""
        return Measured(
            {name: values[rows] for name, values in self.sums.items()},
            {name: values[rows] for name, values in self.shown.items()},
            self.counts[rows],
            self.known[rows],
            self.errors[rows],
            self.relative[rows],
        )


def measure(scores: Scores) -> Measured:
    """What faces add to the tallies that count them."""
    return Measured(
        {m.name: m.of_faces(scores) for m in METRICS if m.of_faces is not None},
        {m.name: m.only_if(scores) for m in METRICS if m.only_if is not None},
        scores.counts,
        scores.known,
        scores.errors,
        scores.relative,
    )


def _add(before: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """The sum (...) of `before` (...) and the rows (B, ...), one after the other: the last bits do
    not hang on how many came at a time."""
    total: NDArray[Any] = np.concatenate([before[None], rows]).cumsum(axis=0)[-1]
    return total


class Tally:
    """The errors of a set of faces: a sum and a count a metric, and a number a face.

    A failed face is infinite to AUC and failure rate, and in no mean.
    """

    def __init__(self) -> None:
        self.nmes = array("d")  # one a face that has a norm; infinite for a failure
        self.faces = self.failed = 0
        self.coordinates = 0
        self._sums = {metric.name: np.zeros(()) for metric in METRICS if metric.of_faces}
        self._shown: set[str] = set()  # of the metrics that are there for some faces only
        self.point_sums = np.zeros(0)  # of distance over norm, by point
        self.point_counts = np.zeros(0, dtype=np.int64)

    def fail(self) -> None:
        """Add a face that failed."""
        self.faces += 1
        self.failed += 1
        self.nmes.append(np.inf)

    def add(self, scores: Scores) -> None:
        """Add faces. Those whose norm is not known have no part in NME."""
        self.count(measure(scores))

    def count(self, found: Measured) -> None:
        """As `add`, of faces that several tallies count."""
        self.faces += len(found.counts)
        self.coordinates += 2 * int(found.counts.sum())
        for name, values in found.sums.items():
            self._sums[name] = _add(self._sums[name], values)
        self._shown.update(name for name, faces in found.shown.items() if faces.any())
        normed = ~np.isnan(found.errors)
        if not normed.any():
            return
        self.nmes.frombytes(found.errors[normed].tobytes())
        known = found.known[normed]
        points = known.shape[1]
        if points > len(self.point_sums):
            grow = (0, points - len(self.point_sums))
            self.point_sums = np.pad(self.point_sums, grow)
            self.point_counts = np.pad(self.point_counts, grow)
        relative = np.where(known, found.relative[normed], 0.0)
        self.point_sums[:points] = _add(self.point_sums[:points], relative)
        self.point_counts[:points] += known.sum(axis=0)

    @property
    def errors(self) -> Errors:
        """(N,): the NME of each face that has a norm, infinite for a failure."""
        return np.array(self.nmes, dtype=np.float64)

    @property
    def without_norm(self) -> int:
        """Faces that have no NME, and did not fail."""
        return self.faces - len(self.nmes)

    def report(self, threshold: float) -> Figures:
        """All metrics under their names; None where no face had one."""
        errors = self.errors
        counts: Figures = {
            "faces": self.faces,
            "failed": self.failed,
            "without_norm": self.without_norm,
        }
        always = [metric for metric in METRICS if metric.only_if is None]
        sometimes = [metric for metric in METRICS if metric.name in self._shown]
        values = {m.name: self._value(m, errors, threshold) for m in (*always, *sometimes)}
        return counts | values

    def _value(self, metric: Metric, errors: Errors, threshold: float) -> float | None:
        if metric.of_errors is not None:
            value = metric.of_errors(errors, threshold) if len(errors) else math.nan
            return None if math.isnan(value) else value
        count = self.coordinates
        return metric.finish(float(self._sums[metric.name]) / count) if count else None

    def figure(self, name: str, threshold: float) -> float | None:
        """One metric; None where no face had one."""
        return self._value(BY_NAME[name], self.errors, threshold)

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
