"""The errors of faces: the one place where they are computed.

Faces of one kind are scored many at a time. The figures of a face are the same bits whichever faces
it is scored with, since that hangs on how fast the lines of a pipe come.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import MixedNorms, RecordError
from kptools.evaluation.norms import LENGTHS, Annotated, Lengths, norm_for
from kptools.records import keys
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.schemes.scheme import Scheme
from kptools.units import Box, Pixels, Size

Errors = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """How far one face's points are from the truth. `offsets`: (K, 2) pixels of the file, NaN
    where the truth is not annotated. `norm`: the length that distances are divided by, NaN where
    it is not known, 1 where the norm's name is `pixels`. `error`: the mean distance over the norm
    (NME), or in pixels; NaN where there is none."""

    offsets: g.Points
    norm: Pixels
    norm_name: str
    error: float

    @property
    def distances(self) -> Errors:
        """(K,) pixels."""
        distances: Errors = np.hypot(*self.offsets.T)
        return distances

    @property
    def text(self) -> str:
        if math.isnan(self.error):
            return "no norm: an eye is not annotated"
        if self.norm_name == "pixels":
            return f"{self.error:.2f} px"
        return f"NME {100 * self.error:.2f} % {self.norm_name}"


@dataclass(frozen=True)
class Scores:
    """How far the points of B faces are from the truth. `offsets`: (B, K, 2) pixels of the file,
    NaN where the truth is not annotated. `norms`: (B,) lengths that distances are divided by, NaN
    where not known. `sizes` of the images, (B, 2), and `scales` to the original photos, (B,), NaN
    where the file is the original, are what MSE and the original's MAE need."""

    offsets: g.Points
    norms: Lengths
    norm_name: str
    sizes: NDArray[np.float64]
    scales: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def known(self) -> Flags:
        """(B, K): which points are annotated."""
        return np.asarray(np.isfinite(self.offsets).all(axis=2))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(B,): how many points are annotated."""
        return np.asarray(self.known.sum(axis=1))

    @cached_property
    def apart(self) -> Errors:
        """|dx| and |dy|, pixels, (B, K, 2)."""
        apart: Errors = np.abs(self.offsets)
        return apart

    @cached_property
    def relative(self) -> Errors:
        """(B, K): distances over the norm."""
        relative: Errors = np.hypot(self.apart[..., 0], self.apart[..., 1]) / self.norms[:, None]
        return relative

    @cached_property
    def errors(self) -> Errors:
        """(B,): the mean of `relative` (NME), NaN where there is none."""
        counts = np.where(self.counts > 0, self.counts, np.nan)
        errors: Errors = self.sums(self.relative) / counts
        return errors

    def sums(self, values: Errors) -> Errors:
        """(B,): the sum of the values (B, K, ...) of each face's annotated points."""
        if self.known.all():
            total: Errors = values.reshape(len(self), -1).sum(axis=1)
            return total
        return np.array([row[known].sum() for row, known in zip(values, self.known, strict=True)])

    def of_points(self, keep: Sequence[int]) -> "Scores":
        """The scores of some of the points, by the norm of the whole face."""
        return replace(self, offsets=self.offsets.take(keep, axis=1))

    def without(self, points: Flags) -> "Scores":
        """The scores without those points (B, K), as if they were not annotated."""
        return replace(self, offsets=np.where(points[..., None], np.nan, self.offsets))

    def face(self, index: int) -> Score:
        """One of the faces."""
        norm, error = float(self.norms[index]), float(self.errors[index])
        return Score(self.offsets[index], norm, self.norm_name, error)


def mean(values: Errors) -> float:
    """The mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def compare(
    predicted: g.Points,
    truth: g.Points,
    *,
    norm: str,
    scheme: Scheme | None,
    boxes: Sequence[Box] | None = None,
    sizes: Sequence[Size] | None = None,
    scales: Sequence[float] | None = None,
) -> Scores:
    """The scores of `predicted` (B, K, 2) against `truth` (B, K, 2), pixels of the files, NaN where
    the truth is not annotated, over the norm of that name, which the scheme has, or `pixels`. What
    neither the norm nor a wanted metric needs may be None. A scale is NaN where there is none."""
    count = len(truth)
    faces = Annotated(truth, scheme, _table(boxes, count, 4), _table(sizes, count, 2))
    norms = np.ones(count) if norm == "pixels" else LENGTHS[norm](faces)
    norms = np.where(norms > 0, norms, np.nan)
    return Scores(predicted - truth, norms, norm, faces.sizes, _table(scales, count, 1)[:, 0])


def _table(values: Sequence[object] | None, rows: int, columns: int) -> NDArray[np.float64]:
    if values is None:
        return np.full((rows, columns), np.nan)
    return np.array(values, dtype=np.float64).reshape(rows, columns)


def score(record: Record, norm: str | None = None, key: str = "pred") -> Score:
    """The score of the points under `key`. Raises RecordError: no points, no prediction."""
    truth = points_array(record)
    require_truth(bool(np.isfinite(truth).any()))
    scheme = keys.known_scheme(record, len(truth))
    name = "pixels" if norm == "pixels" else norm_for(scheme, norm)
    predicted = points_array(record, key)
    require_prediction(len(predicted), len(truth), bool(np.isfinite(predicted).all()))
    found = compare(
        predicted[None],
        truth[None],
        norm=name,
        scheme=scheme,
        boxes=[keys.box(record)] if name == "box" else None,
        sizes=[keys.size(record)] if name == "diagonal" else None,
    )
    return found.face(0)


def require_truth(annotated: bool) -> None:
    """RecordError where no point of a face is annotated."""
    if not annotated:
        raise RecordError("bad_points", "no point is annotated; there is nothing to score by")


def require_prediction(predicted: int, annotated: int, finite: bool) -> None:
    """RecordError where there are not as many points predicted as annotated, or not all finite."""
    if predicted != annotated:
        raise RecordError(
            "bad_points",
            f"{predicted} points predicted, but {annotated} annotated; each needs its own",
        )
    if not finite:
        raise RecordError("bad_points", "a predicted point is null or not finite; predict again")


class OneNorm:
    """The norm that the faces of one picture share: one curve, or one order, of errors over two
    norms would mean nothing."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._scheme = ""

    def require(self, name: str, scheme: str) -> None:
        """MixedNorms where a face of `scheme` has another norm than those before it."""
        if self.name is None:
            self.name, self._scheme = name, scheme
        elif name != self.name:
            raise MixedNorms(
                f"faces of {self._scheme or 'no scheme'} have an error over the norm {self.name}, "
                f"those of {scheme or 'no scheme'} over {name}, and one figure cannot mix them; "
                "give --norm box or --norm diagonal, or score them apart"
            )
