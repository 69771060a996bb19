"""Metrics, as the field defines them; README.md says the same in words.

The errors of one face are unreduced (`Score`); `Tally` reduces those of many, once.
"""

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.schemes.scheme import Scheme
from kptools.units import Box, Pixels, Size

NORMS = ("interocular", "interpupil", "box", "diagonal")


Errors = NDArray[np.float64]


# The metrics of `Tally.report` that are over a norm
OVER_NORM = ("nme", "nme_median", "nme_p90", "nme_p95", "nme_max", "auc", "failure_rate")


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


def norm(
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


def auc(errors: Errors, threshold: float) -> float:
    """Area under the cumulative error distribution from 0 to the threshold, over the threshold:
    exact for the step function. `errors` holds one number a face, infinite for a failure."""
    if not len(errors):
        return float("nan")
    return float(np.clip(1 - errors / threshold, 0, None).mean())


def failure_rate(errors: Errors, threshold: float) -> float:
    """The share of faces whose error is over the threshold; failures count."""
    return float((errors > threshold).mean()) if len(errors) else float("nan")
