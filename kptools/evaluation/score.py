"""The error of one face: the one place where it is computed."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import MixedNorms, RecordError
from kptools.evaluation.norms import LENGTHS, Annotated, norm_for
from kptools.records import keys
from kptools.records.keys import Record
from kptools.schemes.scheme import Scheme
from kptools.units import Box, Pixels, Size

Errors = NDArray[np.float64]


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

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(K,): which points are annotated."""
        return np.asarray(np.isfinite(self.offsets).all(axis=1))

    @cached_property
    def apart(self) -> Errors:
        """|dx| and |dy| of the annotated points, pixels, (n, 2)."""
        apart: Errors = np.abs(self.offsets[self.known])
        return apart

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


def compare(
    predicted: g.Points,
    truth: g.Points,
    *,
    scheme: Scheme | None,
    box: Box | None,
    size: Size | None,
    scale: float | None = None,
    norm: str | None = None,
) -> Score:
    """The score of `predicted` (K, 2) against `truth` (K, 2), pixels of the file, NaN where the
    truth is not annotated. `norm` None: the scheme's own. `box` and `size` may be None where the
    norm does not need them. RecordError where the predicted points are not finite, or are not as
    many, or where the scheme has no eyes for the norm that was asked for."""
    if predicted.shape != truth.shape:
        raise RecordError(
            "bad_points",
            f"{len(predicted)} points predicted, but {len(truth)} annotated; each needs its own",
        )
    if not np.isfinite(predicted).all():
        raise RecordError("bad_points", "a predicted point is null or not finite; predict again")
    name = "pixels" if norm == "pixels" else norm_for(scheme, norm)
    length = 1.0 if name == "pixels" else LENGTHS[name](Annotated(truth, scheme, box, size))
    return Score(predicted - truth, length if length > 0 else math.nan, name, size, scale)


def score(record: Record, norm: str | None = None, key: str = "pred") -> Score:
    """The score of the points under `key`. Raises RecordError: no points, no prediction."""
    truth = truth_of(record)
    scheme = keys.known_scheme(record, len(truth))
    name = None if norm == "pixels" else norm_for(scheme, norm)
    return compare(
        g.from_list(keys.points(record, key)),
        truth,
        scheme=scheme,
        box=keys.box(record) if name == "box" else None,
        size=keys.size(record) if name == "diagonal" else None,
        norm=norm,
    )


def truth_of(record: Record) -> g.Points:
    """The annotated points (K, 2). RecordError where there is none to score by."""
    truth = g.from_list(keys.points(record))
    if not np.isfinite(truth).any():
        raise RecordError("bad_points", "no point is annotated; there is nothing to score by")
    return truth


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
