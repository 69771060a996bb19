"""Where a face lies in an aligned crop: level, its eyes and mouth where the mean face has them.

As in the crops of FFHQ (Karras et al., 2019), the eyes and the mouth alone decide, so that crops
are alike whatever the scheme of the points. The line through the eyes becomes level, and the middle
between them always lies at one place. Of the distance between the eyes and the way from there to
the mouth the longer one, as measured by the mean face, gives the scale: a head that is turned to
the side shortens the one, a head that nods the other.
"""

import math

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.schemes.scheme import Scheme
from kptools.units import Fraction, Size

# Of the largest square in the middle of the crop: the mean face's distance between the centres of
# the eyes, and how far below its top they lie. The square then holds all points of 99 % of the
# faces of iBUG 300-W and of IMM, from the chin to some of the forehead.
EYES_APART: Fraction = 0.28
EYE_LINE: Fraction = 0.4
# From the middle between the eyes to that of the mouth, in distances between the eyes: the mean of
# 1,652 faces of iBUG 300-W (1.12) and of 192 of IMM (1.11)
TO_MOUTH = 1.11


def matrix(record: Record, size: Size) -> g.Matrix:
    """The map (2, 3), file to crop, continuous, that brings the record's face into a crop of this
    size (width, height): a turn, one scale and a move. The face is that of `points` where both eyes
    are annotated, else of `pred`. Raises RecordError (`bad_points`, `bad_scheme`)."""
    right, left, mouth = _eyes_and_mouth(record)
    apart, middle = left - right, (left + right) / 2
    lengths = [math.hypot(*apart)]
    if mouth is not None:
        lengths.append(math.hypot(*(mouth - middle)) / TO_MOUTH)
    if lengths[0] < 1e-3:
        raise RecordError("bad_points", "both eyes are in one place; --align needs the two")
    side = min(size)
    zoom = EYES_APART * side / max(lengths)
    return g.compose(
        g.translation(size[0] / 2, size[1] / 2 + (EYE_LINE - 0.5) * side),
        g.scaling(zoom, zoom),
        g.rotation(math.atan2(apart[1], apart[0])),
        g.translation(*-g.to_continuous(g.IDENTITY, middle.tolist())),
    )


def _eyes_and_mouth(record: Record) -> tuple[g.Points, g.Points, g.Points | None]:
    """The centres (2,) of the right and the left eye and, where it is known, of the mouth."""
    found = [key for key in ("points", "pred") if record.get(key) is not None]
    if not found:
        raise RecordError(
            "bad_points", "no `points` and no `pred`, by which to align; kp-predict gives `pred`"
        )
    for key in found:
        points = points_array(record, key)
        scheme = keys.known_scheme(record, len(points))
        if scheme is None or not scheme.pupils:
            raise RecordError(
                "bad_scheme",
                f"{keys.scheme_name(record)} has no eyes to align by; use a scheme that has them",
            )
        right, left = (points[list(eye)].mean(axis=0) for eye in scheme.pupils)
        if np.isfinite([right, left]).all():
            mouth = points[_mouth(scheme)].mean(axis=0) if _mouth(scheme) else None
            return right, left, mouth if mouth is not None and np.isfinite(mouth).all() else None
    raise RecordError("bad_points", "an eye is not annotated; --align needs both")


def _mouth(scheme: Scheme) -> list[int]:
    """The points of the mouth; none where the scheme has one side of it alone."""
    mouth = scheme.regions.get("mouth", ())
    if scheme.swap is None or {scheme.swap[i] for i in mouth} != set(mouth):
        return []
    return list(mouth)
