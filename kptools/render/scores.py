"""The error of a face, and the errors of many: what captions, curves and reports show."""

import math
from array import array
from dataclasses import dataclass

import numpy as np

from kptools import geometry as g
from kptools import metrics, records, schemes
from kptools.errors import RecordError
from kptools.metrics import Errors
from kptools.records import Record
from kptools.units import Pixels

NORMS = (*metrics.NORMS, "pixels")


@dataclass(frozen=True)
class Score:
    """How far one face's points are from the truth. `offsets`: (K, 2) pixels of the file, NaN
    where the truth is not annotated. `norm`: the length that distances are divided by; 1 where
    the norm's name is `pixels`."""

    offsets: g.Points
    norm: Pixels
    norm_name: str

    @property
    def distances(self) -> Errors:
        """(K,) pixels."""
        return metrics.distances(self.offsets, np.zeros_like(self.offsets))

    @property
    def error(self) -> float:
        """The mean distance over the norm (NME), or in pixels; NaN where there is none."""
        return mean(self.distances) / self.norm

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


def score(record: Record, norm: str | None = None, key: str = "pred") -> Score:
    """The score of the points under `key`. Raises RecordError: no points, no prediction."""
    truth = g.from_list(records.points(record))
    given = g.from_list(records.points(record, key))
    if len(given) != len(truth):
        raise RecordError("bad_points", f"{len(given)} {key}, but {len(truth)} points; mend them")
    if not np.isfinite(given).all():
        raise RecordError("bad_points", f"a point of `{key}` is null; predict again")
    if not np.isfinite(truth).any():
        raise RecordError("bad_points", "no point is annotated; there is nothing to score by")
    if norm == "pixels":
        return Score(given - truth, 1.0, norm)
    scheme = records.known_scheme(record, len(truth))
    name = metrics.norm_for(scheme, norm)
    size = records.size(record) if name == "diagonal" else (0, 0)
    box = records.box(record) if name == "box" else (0.0, 0.0, 1.0, 1.0)
    length = metrics.norm(name, truth, scheme, box, size)
    return Score(given - truth, length if length > 0 else math.nan, name)


class Source:
    """The errors of one source of records, reduced as they come; they are kp-eval's numbers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pred, self.mean = metrics.Tally(), metrics.Tally()  # `mean`: the mean shape
        self.face_mae = array("d")  # one a face, pixels
        self.norms: dict[str, None] = {}  # in the order in which they came
        self.schemes: dict[str, None] = {}

    def add(self, record: Record, norm: str | None = None) -> float:
        """Score a face; its NME, NaN where its norm is not known. Raises RecordError."""
        result = score(record, norm)
        truth = g.from_list(records.points(record))
        size, length = records.size(record), result.norm
        baseline = None
        if record.get("mean") is not None:
            baseline = score(record, norm, "mean").offsets
        nme = self.pred.add(truth + result.offsets, truth, length, size, None)
        if baseline is not None:
            self.mean.add(truth + baseline, truth, length, size, None)
        self.face_mae.append(mean(np.abs(result.offsets).ravel()))
        self.norms[result.norm_name] = None
        self.schemes[str(record.get("scheme", ""))] = None
        return nme

    def regions(self) -> dict[str, float | None]:
        """NME by region, where all faces share a scheme."""
        name = next(iter(self.schemes), "")
        if len(self.schemes) != 1 or schemes.count(name) is None:
            return {}
        return self.pred.by_region(schemes.get(name))

    @property
    def errors(self) -> Errors:
        """(N,), infinite for a failure."""
        return np.array(self.pred.nmes, dtype=np.float64)

    @property
    def baseline(self) -> Errors | None:
        """(N,), of the mean shape; None where no record has one."""
        return np.array(self.mean.nmes, dtype=np.float64) if self.mean.nmes else None
