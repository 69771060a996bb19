"""OKS, the object keypoint similarity of COCO (Lin et al., 2014), and the AP that it gives.

A point at distance d of the truth counts exp(-d^2 / (2 area (2 sigma)^2)), and a face the mean of
its annotated points. `area` is that of the face's box, as `kp-prep to coco` writes it. The formula
and the AP are those of pycocotools' COCOeval, where each face is a picture of its own: a prediction
is compared with the truth of its own record.
"""

import math
import os
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kptools.errors import KptoolsError, UsageError
from kptools.evaluation.score import Errors, Scores
from kptools.schemes import catalog

# Of the 68 points of the face in COCO-WholeBody (Jin et al., ECCV 2020), in thousandths: its
# evaluation/myeval_face.py
_COCO = (
    *(42, 43, 44, 43, 40, 35, 31, 25, 20, 23, 29, 32, 37, 38, 43, 41, 45),
    *(13, 12, 11, 11, 12, 12, 11, 11, 13, 15),
    *(9, 7, 7, 7, 12, 9, 8, 16),
    *(10, 17, 11, 9, 11, 9, 7, 13, 8, 11, 12, 10),
    *(34, 8, 8, 9, 8, 8, 7, 10, 8, 9, 9, 9, 7),
    *(7, 8, 11, 8, 8, 8, 10, 8),
)
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS, where a face is found
RECALLS = np.linspace(0, 1, 101)  # at which the precision is averaged


class Sigmas:
    """`coco`, one number for all points, a list of a number a point with commas between, or a file
    of such numbers. Raises UsageError; KptoolsError for a file."""

    def __init__(self, given: str) -> None:
        self.name = "coco-wholebody" if given == "coco" else "given"
        self._found: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._values = np.array([]) if given == "coco" else _numbers(given)

    def of(self, scheme: str, count: int) -> NDArray[np.float64]:
        """(K,): those of the points of a face. KptoolsError where there are none for it."""
        if (scheme, count) not in self._found:
            self._found[scheme, count] = self._of(scheme, count)
        return self._found[scheme, count]

    def _of(self, scheme: str, count: int) -> NDArray[np.float64]:
        if self.name != "given":
            base, _, tail = scheme.partition(":")
            if base != "ibug68" or catalog.count(scheme) is None:
                raise KptoolsError(
                    f"--oks coco: COCO-WholeBody has sigmas for ibug68, not for "
                    f"{scheme[:80] or 'points without scheme'}; give --oks 0.05, or a file"
                )
            keep = [int(word) for word in tail.split(",")] if tail else range(68)
            return np.array(_COCO)[list(keep)] / 1000
        if len(self._values) == 1:
            return np.repeat(self._values, count)
        if len(self._values) != count:
            raise KptoolsError(
                f"--oks: {len(self._values)} numbers, and a face of {count} points; one a point"
            )
        return self._values


def _numbers(given: str) -> NDArray[np.float64]:
    """(N,): positive, in a text or in the file of that name."""
    text, is_file = given, os.path.exists(given)
    try:
        if is_file:
            with open(given, encoding="utf-8") as handle:
                text = handle.read(1 << 20)
        found = np.array([float(word) for word in text.strip(" \n[]").replace(",", " ").split()])
    except OSError as error:
        raise KptoolsError(f"--oks {given}: cannot read it: {error.strerror}") from None
    except ValueError:  # also of a text that is not UTF-8
        found = np.array([])
    if len(found) and (found > 1e-9).all() and np.isfinite(found).all():
        return found
    if is_file:
        raise KptoolsError(f"--oks {given}: the file is not positive numbers, one a point")
    raise UsageError(
        f"--oks {given[:80]!r}: coco, or positive numbers: one, one a point, or a file of them"
    )


def similarities(scores: Scores, boxes: NDArray[np.float64], sigmas: NDArray[np.float64]) -> Errors:
    """(B,): the OKS of faces in boxes (B, 4), NaN where no point is annotated."""
    areas = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + np.spacing(1))[:, None]  # (B, 1)
    exponents = (scores.offsets**2).sum(axis=2) / (2 * sigmas) ** 2 / areas / 2
    counts = np.where(scores.counts > 0, scores.counts, np.nan)
    found: Errors = np.where(scores.known, np.exp(-exponents), 0).sum(axis=1) / counts
    return found


class OksTally:
    """The OKS of each face, and its confidence: the mean `score` of its points."""

    def __init__(self, sigmas: Sigmas) -> None:
        self.sigmas = sigmas
        self.failed = 0
        self._found, self._confidences = array("d"), array("d")

    def fail(self) -> None:
        """Add a face that failed: no prediction is compared with it."""
        self.failed += 1

    def add(self, found: Errors, confidences: Errors) -> None:
        """Add faces (B,); a confidence is NaN where there is none."""
        self._found.extend(found.tolist())
        self._confidences.extend(confidences.tolist())

    def report(self) -> dict[str, Any]:
        """The mean OKS; AP at OKS .50:.95, at .50 and at .75, None where a face has no `score`."""
        all_found = np.array(self._found)
        known = np.isfinite(all_found)
        found, confidences = all_found[known], np.array(self._confidences)[known]
        aps = np.full(len(THRESHOLDS), np.nan)
        if len(found) and np.isfinite(confidences).all():
            ranked = found[np.argsort(-confidences, kind="mergesort")]
            faces = len(found) + self.failed
            aps = np.array([average_precision(ranked >= t, faces) for t in THRESHOLDS])
        figures = {
            "mean": found.mean() if len(found) else math.nan,
            "ap": aps.mean(),
            "ap50": aps[0],
            "ap75": aps[5],
        }
        return {
            **{name: None if math.isnan(v) else float(v) for name, v in figures.items()},
            "faces": len(found) + self.failed,
            "failed": self.failed,
            "area": "box",
            "sigmas": self.sigmas.name,
        }


def average_precision(hits: NDArray[np.bool_], faces: int) -> float:
    """Of predictions in order of their confidence, of which some are `hits`, for so many faces: the
    precision at 101 recalls, made falling, and 0 where the recall is not reached."""
    right = hits.cumsum()
    precision = right / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / faces, RECALLS, side="left")
    return float(np.append(falling, 0)[at].mean())
