"""Metrics, as the field defines them; DESIGN's words are in README.md.

Errors are unreduced here, (K,) or (K, 2) for each face, NaN where the truth is not annotated;
`kp-eval` reduces them once.
"""

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.schemes import Scheme
from kptools.units import Box, Pixels, Size

NORMS = ("interocular", "interpupil", "box", "diagonal")
Errors = NDArray[np.float64]


def norm_for(scheme: Scheme | None, wanted: str | None) -> str:
    """The norm that is used: the one wanted, by default interocular; the box for a scheme whose
    eyes are not known."""
    name = wanted or "interocular"
    if name == "interocular" and (scheme is None or not scheme.corners):
        return "box"
    if name == "interpupil" and (scheme is None or not scheme.pupils):
        return "box"
    return name


def norm(name: str, truth: g.Points, scheme: Scheme | None, box: Box, size: Size) -> Pixels:
    """The length that distances are divided by, pixels; NaN where the eyes are not annotated."""
    if name == "interocular" and scheme is not None:
        right, left = (truth[i] for i in scheme.corners)
        return float(np.hypot(*(right - left)))
    if name == "interpupil" and scheme is not None:
        right, left = (truth[list(eye)].mean(axis=0) for eye in scheme.pupils)
        return float(np.hypot(*(right - left)))
    if name == "diagonal":
        return float(np.hypot(*size))
    return g.side(box)


def distances(predicted: g.Points, truth: g.Points) -> Errors:
    """(K,) Euclidean distances, pixels."""
    result: Errors = np.hypot(*(predicted - truth).T)
    return result


def auc(errors: Errors, threshold: float) -> float:
    """Area under the cumulative error distribution from 0 to the threshold, over the threshold:
    exact for the step function. `errors` holds one number a face, infinite for a failure."""
    if not len(errors):
        return float("nan")
    return float(np.clip(1 - errors / threshold, 0, None).mean())


def failure_rate(errors: Errors, threshold: float) -> float:
    """The share of faces whose error is over the threshold; failures count."""
    return float((errors > threshold).mean()) if len(errors) else float("nan")
