"""How much the points of a video tremble.

NMF, the normalised mean flicker of Micaelli et al. (CVPR 2023, "Recurrence without Recurrence:
Stable Video Landmark Detection with Deep Equilibrium Models"), is about the error: r(n, l) is the
vector from the truth to the prediction of point l in frame n, d(n) the size of the face, and

    NMF^2 = mean over n and l of |r(n, l) - r(n - 1, l)|^2 / d(n)^2

over one video; several have the mean of theirs. As in the authors' code (`video_NMJ` of
https://github.com/polo5/LDEQ_RwR), d is the root of the area of the box of the true points. Their
tables have it in percent of a face of 256 pixels: times 25,600.

Without truth there is the acceleration, which is that of the prediction p in place of the change of
r: p(n + 1) - 2 p(n) + p(n - 1), over the size of the box of p(n + 1). Motion is in it, too.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.units import Seconds

FIGURES = ("nmf", "acceleration")
GAP = (
    2.5  # times the step before it: a longer step in time is a gap, and nothing is compared over it
)
FEW = 5  # fewer points show no size of a face


@dataclass(slots=True)
class _Mean:
    """A mean of squares: root of `total` over `count`."""

    total: float = 0.0
    count: int = 0

    def add(self, moves: g.Points, size: float) -> None:
        """Moves (K, 2) in pixels, over the size of the face; NaN where not known."""
        squares = (moves**2).sum(axis=1) / size**2
        known = np.isfinite(squares)
        self.total += float(squares[known].sum())
        self.count += int(known.sum())


class _Track:
    """A face of a video: what its last frames were, and what they came to."""

    def __init__(self) -> None:
        self.time: Seconds = -math.inf
        self._step: Seconds = math.inf  # between the last two frames
        self._points: list[g.Points] = []  # predicted, the last two
        self._offsets: g.Points | None = None  # of the last frame, where it has truth
        self.flicker, self.acceleration = _Mean(), _Mean()

    def add(self, time: Seconds, predicted: g.Points, truth: g.Points | None) -> None:
        step = time - self.time
        before = self._points[-1:]
        if step > GAP * self._step or (before and before[0].shape != predicted.shape):
            self._points, self._offsets, step = [], None, math.inf
        self._step, self.time = step if self._points else math.inf, time
        offsets = None if truth is None else predicted - truth
        if offsets is not None and self._offsets is not None and truth is not None:
            self.flicker.add(offsets - self._offsets, _size(truth))
        if len(self._points) == 2:
            first, second = self._points
            self.acceleration.add(predicted - 2 * second + first, _size(predicted))
        self._offsets, self._points = offsets, [*self._points[-1:], predicted]


class Jitter:
    """The figures of the faces that are added, track by track: those of one `group` and `track`."""

    def __init__(self) -> None:
        self.faces = self.failed = 0
        self._tracks: dict[tuple[str, str], _Track] = {}

    def fail(self) -> None:
        """Count a record that failed."""
        self.failed += 1

    def add(self, record: Record) -> None:
        """The next frame of a face. Raises RecordError."""
        time, predicted = keys.time(record), points_array(record, "pred")
        truth = None if record.get("points") is None else points_array(record)
        if len(predicted) < FEW:
            raise RecordError(
                "bad_points", f"{len(predicted)} points have no size to divide by; {FEW} are needed"
            )
        if truth is not None and truth.shape != predicted.shape:
            raise RecordError(
                "bad_points",
                f"{len(predicted)} points predicted, but {len(truth)} annotated; each needs its "
                "own",
            )
        name = (str(record.get("group", "")), str(record.get("track", "")))
        track = self._tracks.setdefault(name, _Track())
        if time <= track.time:
            raise RecordError(
                "bad_record",
                f"time {time:g} s does not come after {track.time:g} s of the same face; bring "
                "frames in order; kp-track tells several faces of a frame apart",
            )
        track.add(time, predicted, truth)
        self.faces += 1

    def report(self) -> dict[str, Any]:
        """The figures, None where no track has one; `faces`, those that `failed`, and `tracks`."""
        tracks = self._tracks.values()
        return {
            "faces": self.faces,
            "failed": self.failed,
            "tracks": len(tracks),
            "nmf": _mean([track.flicker for track in tracks]),
            "acceleration": _mean([track.acceleration for track in tracks]),
        }


def _mean(all_found: list[_Mean]) -> float | None:
    known = [math.sqrt(found.total / found.count) for found in all_found if found.count]
    return math.fsum(known) / len(known) if known else None


def _size(points: g.Points) -> float:
    return g.side(g.box_of_points(points)) if np.isfinite(points).any() else math.nan
