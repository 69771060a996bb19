"""Norms: the length that the distances of a face are divided by.

One more is a function, and a line in `LENGTHS`; its name stands in `kptools.evaluation.NORMS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import RecordError, UsageError
from kptools.evaluation import NORMS
from kptools.schemes.scheme import Scheme

Lengths: TypeAlias = NDArray[np.float64]  # (B,) pixels, NaN where not known


@dataclass(frozen=True)
class Annotated:
    """What the norms of B faces can be made of: the truth (B, K, 2), NaN where not annotated, their
    scheme, and the boxes (B, 4) and the sizes of the images (B, 2)."""

    truth: g.Points
    scheme: Scheme | None
    boxes: NDArray[np.float64]
    sizes: NDArray[np.float64]


def interocular(faces: Annotated) -> Lengths:
    """The distance of the outer corners of the eyes."""
    assert faces.scheme is not None
    right, left = (faces.truth[:, i] for i in faces.scheme.corners)
    return _length(right - left)


def interpupil(faces: Annotated) -> Lengths:
    """The distance of the centres of the eyes."""
    assert faces.scheme is not None
    right, left = (faces.truth[:, list(eye)].mean(axis=1) for eye in faces.scheme.pupils)
    return _length(right - left)


def side_of_box(faces: Annotated) -> Lengths:
    """sqrt(box area)."""
    width, height = (faces.boxes[:, 2:] - faces.boxes[:, :2]).T
    side: Lengths = np.sqrt(width * height)
    return side


def diagonal(faces: Annotated) -> Lengths:
    """The diagonal of the image."""
    return _length(faces.sizes)


def _length(vectors: NDArray[np.float64]) -> Lengths:
    """Of vectors (B, 2)."""
    length: Lengths = np.hypot(*vectors.T)
    return length


LENGTHS: dict[str, Callable[[Annotated], Lengths]] = {
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
        name = scheme.name if scheme else "a scheme that is not known (--scheme FILE)"
        raise RecordError(
            "bad_scheme", f"{name} has no eyes for the norm {wanted}; use --norm box or diagonal"
        )
    return wanted
