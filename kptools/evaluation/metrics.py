"""The metrics, as the field defines them; `docs/metrics.md` says the same in words.

One more is a line in `METRICS`. A metric is a mean over coordinates, or a figure of the errors of
all faces: a face's error is its NME, infinite where it failed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kptools.evaluation.score import Errors, Flags, Scores


@dataclass(frozen=True)
class Metric:
    """A figure of a report, under `name`, and how a table shows it: `label`, where it has one, and
    the value times `factor`.

    `of_faces` gives a number for each face (B,); the sum over all faces is divided by their
    annotated coordinates, and `finish` is applied. Or `of_errors` is given all errors (N,) that are
    known and the threshold. `over_norm`: it cannot be compared over different norms. `only_if`: it
    is reported where one of the faces (B,) is so.
    """

    name: str
    label: str = ""
    of_faces: Callable[[Scores], Errors] | None = None
    finish: Callable[[float], float] = float
    of_errors: Callable[[Errors, float], float] | None = None
    over_norm: bool = False
    only_if: Callable[[Scores], Flags] | None = None
    factor: float = 1.0
    digits: int = 2


def absolute(scores: Scores) -> Errors:
    """|dx| and |dy|, pixels."""
    return scores.sums(scores.apart)


def absolute_original(scores: Scores) -> Errors:
    """|dx| and |dy|, pixels of the original photo."""
    return absolute(scores) * np.where(np.isnan(scores.scales), 1.0, scores.scales)


def squared(scores: Scores) -> Errors:
    """dx^2 and dy^2, pixels^2."""
    return scores.sums(scores.apart * scores.apart)


def squared_of_size(scores: Scores) -> Errors:
    """(dx / width)^2 and (dy / height)^2."""
    return scores.sums((scores.apart / scores.sizes[:, None]) ** 2)


def _scored(errors: Errors) -> Errors:
    """Those of the faces that did not fail; NaN where there are none."""
    scored = errors[np.isfinite(errors)]
    return scored if len(scored) else np.array([np.nan])


def auc(errors: Errors, threshold: float) -> float:
    """Area under the cumulative error distribution from 0 to the threshold, over the threshold:
    exact for the step function. `errors` holds one number a face, infinite for a failure."""
    if not len(errors):
        return float("nan")
    return float(np.clip(1 - errors / threshold, 0, None).mean())


def failure_rate(errors: Errors, threshold: float) -> float:
    """The share of faces whose error is over the threshold; failures count."""
    return float((errors > threshold).mean()) if len(errors) else float("nan")


METRICS = (
    Metric("mae", "MAE, px", absolute),
    Metric(
        "mae_original",
        "MAE, px of the original",
        absolute_original,
        only_if=lambda scores: np.isfinite(scores.scales),
    ),
    Metric("rmse", "RMSE, px", squared, math.sqrt),
    Metric("mse", "MSE, of width and height", squared_of_size, digits=6),
    Metric(
        "nme",
        "NME, %",
        of_errors=lambda errors, _: float(_scored(errors).mean()),
        over_norm=True,
        factor=100,
    ),
    Metric(
        "nme_median",
        "NME median, %",
        of_errors=lambda errors, _: float(np.median(_scored(errors))),
        over_norm=True,
        factor=100,
    ),
    Metric(
        "nme_p90",
        "NME 90th percentile, %",
        of_errors=lambda errors, _: float(np.percentile(_scored(errors), 90)),
        over_norm=True,
        factor=100,
    ),
    Metric(
        "nme_p95",
        of_errors=lambda errors, _: float(np.percentile(_scored(errors), 95)),
        over_norm=True,
        factor=100,
    ),
    Metric(
        "nme_max",
        "NME worst, %",
        of_errors=lambda errors, _: float(_scored(errors).max()),
        over_norm=True,
        factor=100,
    ),
    Metric("auc", "AUC at {threshold}", of_errors=auc, over_norm=True, digits=4),
    Metric(
        "failure_rate",
        "failure rate at {threshold}",
        of_errors=failure_rate,
        over_norm=True,
        digits=4,
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}
OVER_NORM = tuple(metric.name for metric in METRICS if metric.over_norm)
