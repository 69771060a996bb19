"""Norms: the length that the distances of a face are divided by."""

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.schemes.scheme import Scheme
from kptools.units import Box, Pixels, Size


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


def norm_length(
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
