"""Norms: the length that the distances of a face are divided by.

One more is a function, and a line in `LENGTHS`; its name stands in `kptools.evaluation.NORMS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError, UsageError
from kptools.evaluation import NORMS
from kptools.schemes.scheme import Scheme
from kptools.units import Box, Pixels, Size


@dataclass(frozen=True)
class Annotated:
    """What a norm can be made of: the truth (K, 2), NaN where not annotated, and the rest where it
    is known."""

    truth: g.Points
    scheme: Scheme | None = None
    box: Box | None = None
    size: Size | None = None


def interocular(face: Annotated) -> Pixels:
    """The distance of the outer corners of the eyes."""
    assert face.scheme is not None
    right, left = (face.truth[i] for i in face.scheme.corners)
    return float(np.hypot(*(right - left)))


def interpupil(face: Annotated) -> Pixels:
    """The distance of the centres of the eyes."""
    assert face.scheme is not None
    right, left = (face.truth[list(eye)].mean(axis=0) for eye in face.scheme.pupils)
    return float(np.hypot(*(right - left)))


def side_of_box(face: Annotated) -> Pixels:
    """sqrt(box area)."""
    assert face.box is not None
    return g.side(face.box)


def diagonal(face: Annotated) -> Pixels:
    """The diagonal of the image."""
    assert face.size is not None
    return float(np.hypot(*face.size))


LENGTHS: dict[str, Callable[[Annotated], Pixels]] = {
    "interocular": interocular,
    "interpupil": interpupil,
    "box": side_of_box,
    "diagonal": diagonal,
}


def check_norm(name: str | None) -> None:
    """UsageError where there is no such norm; None is each scheme's own."""
    if name is not None and name not in LENGTHS:
        raise UsageError(f"norm {name!r}: one of {', '.join(NORMS)}")


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
